"""Turns of tokens as spans and back: the longest runs that stay within a document."""

import random

import numpy as np
import pytest

from illada_core.data.build.fitting import ChatFormat
from illada_core.data.pack.order import Sizes
from illada_core.data.pack.plan import PackSettings
from illada_core.data.pack.write import pack
from illada_core.data.store.dataset import open_packed
from illada_core.data.store.index import index_of
from illada_core.data.store.turns import spans_of, turns_between
from illada_core.data.store.verify import verify
from illada_core.errors import DataError
from illada_core.text.tokenizer import load_tokenizer
from tests.text.chat import HEADERS, documents_of, job_of, random_messages, run, write_examples


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


STREAM = PackSettings(64, "stream", "row", shuffle=True, seed=1, holdout=0.2)
FIT = PackSettings(256, "fit", "document", shuffle=True, seed=1, holdout=0.2)


@pytest.mark.parametrize("settings", [STREAM, FIT], ids=["stream", "fit"])
def test_rows_keep_the_turn_of_every_token(tokenizer_folder, tmp_path, settings):
    generator = random.Random(3)
    tokenizer = load_tokenizer(tokenizer_folder(HEADERS))
    examples = [random_messages(generator) for _ in range(200)]
    path = write_examples(tmp_path / "pairs.jsonl", examples)
    longest = settings.sequence_length if settings.mode == "fit" else None
    chat = ChatFormat(longest, "drop" if longest else None)
    source, report = run(job_of(path, tokenizer, chat, shard_tokens=3000), tmp_path / "tokens")
    assert len(source.manifest.shards) > 3
    sizes = Sizes(block_tokens=700, window_tokens=4_000)
    list(pack(source, tmp_path / "packed", settings, sizes=sizes))
    records = [int(r) for index in source.indexes() for r in index.document_records]
    stored = dict(zip(records, documents_of(source), strict=True))
    seen = dict.fromkeys(records, 0)
    for part in open_packed(tmp_path / "packed"):
        assert part.has_turns
        assert [step.problem for step in verify(part) if step.problem] == []
        assert part.manifest.settings["left_out"] == report.skipped
        rows = [part.row(number) for number in range(part.rows)]
        ids = np.concatenate([row.ids for row in rows]).tolist()
        turns = np.concatenate([row.turns for row in rows]).tolist()
        assert all(len(row.ids) == len(row.turns) for row in rows)
        begin = 0
        for shard, index in enumerate(part.indexes()):
            base = int(part.token_starts[shard])
            ends = (index.document_ends + base).tolist()
            offsets = index.document_offsets.tolist()
            for end, record, offset in zip(ends, index.document_records, offsets, strict=True):
                whole_ids, whole_turns = stored[int(record)]
                piece = slice(offset, offset + end - begin)
                assert ids[begin:end] == whole_ids[piece]
                assert turns[begin:end] == whole_turns[piece]
                seen[int(record)] += end - begin
                begin = end
    assert seen == {record: len(ids) for record, (ids, _) in stored.items()}
