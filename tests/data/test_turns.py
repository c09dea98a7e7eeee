"""Turns of tokens as spans and back: the longest runs that stay within a document."""

import numpy as np
import pytest

from illada_core.data.shards import index_of
from illada_core.data.turns import spans_of, turns_between
from illada_core.errors import DataError


def slow_spans(turns, ends):
    """Return (length, turn) of the runs of each document, one token at a time."""
    spans, start = [], 0
    for end in ends:
        runs = []
        for turn in turns[start:end]:
            if runs and runs[-1][1] == turn:
                runs[-1][0] += 1
            else:
                runs.append([1, turn])
        spans += runs
        start = end
    return spans


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_runs_within_documents_and_give_every_token_back_its_turn(seed):
    generator = np.random.default_rng(seed)
    ends = np.cumsum(generator.integers(1, 9, 30))
    turns = generator.integers(0, 3, ends[-1]).astype(np.uint16)
    lengths, span_turns = spans_of(turns, ends)
    assert [[n, turn] for n, turn in zip(lengths, span_turns, strict=True)] == slow_spans(
        turns.tolist(), ends.tolist()
    )
    arrays = {"span_lengths": lengths.astype("<u8"), "span_turns": span_turns.astype("<u8")}
    index = index_of(arrays, int(ends[-1]))
    for _ in range(50):
        start, stop = sorted(generator.choice(ends[-1] + 1, 2, replace=False).tolist())
        np.testing.assert_array_equal(turns_between(index, start, stop), turns[start:stop])


def test_spans_that_do_not_cover_the_tokens_are_damage():
    lengths = np.array([2, 3], "<u8")
    with pytest.raises(DataError, match="spans hold 5 tokens, not 6"):
        index_of({"span_lengths": lengths, "span_turns": lengths}, 6)
    with pytest.raises(DataError, match="spans and their turns"):
        index_of({"span_lengths": lengths, "span_turns": lengths[:1]}, 5)
