"""What a verdict says by each measure, and that no pick is made of what is no number."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from illada_core.errors import CheckpointError
from illada_core.evaluation.items import ChoiceItem
from illada_core.evaluation.measures import NORMALIZES, Tally, text_sizes
from illada_core.evaluation.scoring import (
    Item,
    Masking,
    Scores,
    best_first,
    confidence,
    likelihood,
    one_shot,
)
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.evaluation.verdicts import judge
from tests.evaluation.test_scoring import MASK, VOCABULARY, item_of, reader_of, scores_of

TEXTS = [" yes", "Grüße", "no"]


def asked(normalize="sum", texts=TEXTS, tokens=(1, 4, 2), answer=2):
    sizes = text_sizes(texts, tokens)
    choices = tuple(np.zeros(count, dtype=np.int64) for count in tokens)
    item = Item(np.array([1]), choices, sizes.divisors(normalize))
    return ChoiceItem(ChoiceRequest("p", texts, answer), item, sizes, normalize)


def test_sizes_are_bytes_as_given_and_characters_without_a_leading_space():
    sizes = text_sizes([" yes", "Grüße", "  a", " "], [1, 2, 3, 4])
    assert sizes.bytes == (4, 7, 3, 1)
    assert sizes.characters == (3, 5, 2, 1)


@pytest.mark.parametrize("normalize", NORMALIZES)
def test_every_measure_is_what_a_person_computes(normalize):
    random = np.random.default_rng(3)
    for _ in range(200):
        sums = [float(-number) for number in random.uniform(0.1, 9, 3)]
        by_hand = {
            "sum": sums,
            "byte": [sums[0] / 4, sums[1] / 7, sums[2] / 2],
            "character": [sums[0] / 3, sums[1] / 5, sums[2] / 2],
            "token": [sums[0] / 1, sums[1] / 4, sums[2] / 2],
        }
        picks = {name: int(np.argmax(scores)) for name, scores in by_hand.items()}
        fields = judge(asked(normalize), Scores(tuple(sums))).fields()
        assert fields["scores"] == pytest.approx(by_hand[normalize], abs=1e-6)
        assert fields["sums"] == pytest.approx(sums, abs=1e-6)
        assert fields["picks"] == picks
        assert fields["pick"] == picks[normalize]
        assert fields["correct"] == (picks[normalize] == 2)
        assert "upper_bounds" not in fields


def test_what_is_unfinished_is_a_bound_never_a_score():
    scores = Scores((-6.0, -2.0, -4.0), finished=(False, True, True))
    fields = judge(asked("byte"), scores).fields()
    assert fields["scores"] == [None, round(-2 / 7, 6), -2.0]
    assert fields["sums"] == [None, -2.0, -4.0]
    assert fields["upper_bounds"] == [-1.5, None, None]
    assert (fields["pick"], fields["correct"]) == (1, False)
    assert fields["picks"] == {"sum": None, "byte": 1, "character": None, "token": None}


def test_a_tally_counts_by_each_measure_what_is_known():
    tally = Tally()
    tally.add(1, {"sum": 1, "byte": 0, "character": None, "token": 1})
    tally.add(0, {"sum": 1, "byte": 0, "character": 0, "token": 1})
    tally.add(None, {"sum": 1, "byte": 0, "character": 0, "token": 1})
    found = {name: tally.accuracy(name) for name in NORMALIZES}
    assert tally.items == 3
    assert {name: (each.right, each.answered) for name, each in found.items()} == {
        "sum": (1, 2),
        "byte": (1, 2),
        "character": (1, 1),
        "token": (1, 2),
    }
    assert found["sum"].share == 0.5
    assert found["sum"].interval == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert Tally().accuracy("sum") is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "rule",
    [
        partial(confidence, masking=Masking(MASK)),
        partial(best_first, masking=Masking(MASK)),
        partial(one_shot, masking=Masking(MASK)),
        partial(likelihood, masking=Masking(MASK), samples=4, seed=0, sure=0.0),
    ],
    ids=["confidence", "best-first", "one-shot", "likelihood"],
)
def test_a_probability_that_is_no_number_is_an_error_never_a_pick(rule, number):
    def broken(ids_T, segment_ends, rows_M):
        logits_MV = torch.zeros(len(rows_M), VOCABULARY)
        logits_MV[:, 3] = number
        return logits_MV

    with pytest.raises(CheckpointError, match="not finite numbers"):
        scores_of([item_of([1], [3, 4], [5])], rule, reader_of(broken))


def test_each_choice_may_have_a_prompt_of_its_own():
    """As WinoGrande's options: two contexts, one continuation."""
    after = [7, 8]
    item = item_of([], after, after)
    contexts = (np.array([1, 2]), np.array([3, 4, 5]))
    item = Item(contexts[0], item.choices, (1.0, 1.0), contexts=contexts)
    for rule in (
        partial(confidence, masking=Masking(MASK)),
        partial(likelihood, masking=Masking(MASK), samples=3, seed=0, sure=0.0),
    ):
        for guidance in (0.0, 1.5):
            (both,) = scores_of([item], rule, reader_of(guidance=guidance))
            alone = [
                scores_of([item_of(prompt, after)], rule, reader_of(guidance=guidance))[0].sums[0]
                for prompt in contexts
            ]
            assert both.sums == pytest.approx(alone, abs=1e-6)
            assert alone[0] != alone[1]
