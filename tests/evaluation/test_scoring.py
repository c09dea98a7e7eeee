"""Scores against the reference fixtures, and against a loop that reads one canvas at a time."""

import json
from functools import partial
from itertools import combinations
from math import comb, log, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from illada_core.evaluation.bound import draw, ratios
from illada_core.evaluation.perplexity import TextBound, windows
from illada_core.evaluation.questions import Reader
from illada_core.evaluation.scoring import (
    Item,
    Masking,
    Scorer,
    confidence,
    likelihood,
    one_shot,
    pick,
    score,
    wilson_interval,
)
from illada_core.model.weights import load_model

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BOTH = pytest.mark.parametrize("family", ["illada", "llada"])
MASK, EOS, VOCABULARY = 11, 10, 12


def toy_logits(ids_T, segment_ends, rows_M):
    """Logits from every token of the row's own segment, nearer ones louder, in float64."""
    logits_TV = torch.empty(len(ids_T), VOCABULARY, dtype=torch.float64)
    tables = torch.Generator().manual_seed(0)
    effect_VV = torch.randn(VOCABULARY, VOCABULARY, generator=tables, dtype=torch.float64)
    start = 0
    for end in segment_ends:
        for row in range(start, end):
            nearness_L = 2.0 / (1 + (torch.arange(start, end) - row).abs())
            logits_TV[row] = nearness_L.double() @ effect_VV[ids_T[start:end]]
        start = end
    return logits_TV[rows_M]


def reader_of(logits=toy_logits, mask_id=MASK, **settings):
    return Reader(logits, mask_id, torch.device("cpu"), **settings)


def item_of(prompt, *choices, key=0):
    arrays = tuple(np.array(choice, dtype=np.int64) for choice in choices)
    return Item(np.array(prompt, dtype=np.int64), arrays, (1.0,) * len(choices), key)


def scores_of(items, rule, reader):
    return [scores for batch in score(items, rule, reader) for scores in batch.scores]


def log_probs_of(ids, logits=toy_logits, guidance=0.0, context=0, mask_id=MASK):
    """Return log-probabilities [T, V] of one canvas: every row, one sequence, no sharing."""
    ids_T = torch.tensor(ids)
    everything = torch.arange(len(ids))
    out = logits(ids_T, (len(ids),), everything)
    if guidance:
        blind = logits(torch.tensor([mask_id] * context + ids[context:]), (len(ids),), everything)
        out = blind + (guidance + 1) * (out - blind)
    return out.log_softmax(-1)


def slow_confidence(prompt, target, tail=(), **how):
    """Eq. (2), one canvas at a time: return the sum and the order of revelation."""
    shown, order, total = [MASK] * len(target), [], 0.0
    while MASK in shown:
        log_probs = log_probs_of([*prompt, *shown, *tail], **how)
        masked = [i for i, token in enumerate(shown) if token == MASK]
        sure = [float(log_probs[len(prompt) + i, target[i]]) for i in masked]
        best = masked[int(np.argmax(sure))]
        shown[best] = target[best]
        order.append(best)
        total += max(sure)
    return total, order


def slow_bound(prompt, target, **how):
    """The mean over counts k of the mean over sets of size k of L/k times the log-probabilities."""
    length, total = len(target), 0.0
    for k in range(1, length + 1):
        for hidden in combinations(range(length), k):
            shown = [MASK if i in hidden else token for i, token in enumerate(target)]
            log_probs = log_probs_of([*prompt, *shown], **how)
            sums = sum(float(log_probs[len(prompt) + i, target[i]]) for i in hidden)
            total += sums / k / comb(length, k)
    return total


@pytest.fixture(scope="module")
def reference():
    """Model, special ids and score cases of both fixture checkpoints."""
    found = {}
    for family in ("illada", "llada"):
        folder = FIXTURES / f"{family}-tiny"
        expected = json.loads((folder / "expected.json").read_text())
        cases = expected["cases"]["score"]
        items = [item_of(case["prompt"], case["target"], key=i) for i, case in enumerate(cases)]
        reader = reader_of(load_model(folder).logits_at, expected["mask_id"], budget_tokens=96)
        found[family] = (reader, items, cases, expected["eos_id"])
    return found


@BOTH
@pytest.mark.parametrize("visible_eos", [False, True])
def test_confidence_and_its_order_equal_the_reference(reference, family, visible_eos):
    reader, items, cases, eos_id = reference[family]
    masking = Masking(reader.mask_id, (eos_id,) if visible_eos else ())
    suffix = "_visible_eos" if visible_eos else ""
    found = scores_of(items, partial(confidence, masking=masking), reader)
    for scores, case in zip(found, cases, strict=True):
        assert scores.sums[0] == pytest.approx(case["confidence" + suffix], abs=1e-4)
        assert list(scores.orders[0]) == case["order" + suffix]
        assert scores.forwards == len(case["target"])


@BOTH
def test_enumeration_equals_the_exact_bound_of_the_reference(reference, family):
    reader, items, cases, _ = reference[family]
    rule = partial(likelihood, masking=Masking(reader.mask_id), samples=64, seed=0, sure=0.0)
    for scores, case in zip(scores_of(items, rule, reader), cases, strict=True):
        assert scores.sums[0] == pytest.approx(case["likelihood_bound_exact"], abs=1e-4)
        assert scores.standard_errors == (0.0,)
        assert scores.forwards == 2 ** len(case["target"]) - 1


@BOTH
def test_monte_carlo_is_unbiased_and_its_error_bar_is_true(reference, family):
    reader, items, cases, _ = reference[family]
    long = [i for i, case in enumerate(cases) if len(case["target"]) >= 5]
    deviations, errors = [], []
    for seed in range(60):
        rule = partial(likelihood, masking=Masking(reader.mask_id), samples=24, seed=seed, sure=0.0)
        for i, scores in zip(long, scores_of([items[i] for i in long], rule, reader), strict=True):
            deviations.append(scores.sums[0] - cases[i]["likelihood_bound_exact"])
            errors.append(scores.standard_errors[0])
    spread, claimed = np.std(deviations), sqrt(np.mean(np.square(errors)))
    assert abs(np.mean(deviations)) < 4 * spread / sqrt(len(deviations))
    assert 0.8 < claimed / spread < 1.6
    assert np.mean(np.abs(deviations) < 2 * np.array(errors)) > 0.88


def test_the_surest_token_goes_first_whatever_its_place():
    prompt, target = [1, 2, 3], [4, 5, 6, 7]
    expected, order = slow_confidence(prompt, target)
    assert order != sorted(order)
    (scores,) = scores_of(
        [item_of(prompt, target)], partial(confidence, masking=Masking(MASK)), reader_of()
    )
    assert scores.sums[0] == pytest.approx(expected, abs=1e-6)
    assert scores.orders == (tuple(order),)


def test_equally_sure_tokens_are_revealed_from_the_left():
    def uniform(ids_T, segment_ends, rows_M):
        return torch.zeros(len(rows_M), VOCABULARY)

    item = item_of([1], [2, 2, 3])
    (scores,) = scores_of([item], partial(confidence, masking=Masking(MASK)), reader_of(uniform))
    assert scores.orders == ((0, 1, 2),)
    assert scores.sums[0] == pytest.approx(-3 * log(VOCABULARY))


def test_guidance_mixes_with_the_branch_that_does_not_see_the_prompt():
    prompt, target = [1, 2, 3, 4], [5, 6, 7]
    how = {"guidance": 1.5, "context": len(prompt)}
    reader = reader_of(guidance=1.5)
    items = [item_of(prompt, target), item_of([9, 9, 9, 9], target)]
    by_confidence = scores_of(items, partial(confidence, masking=Masking(MASK, (EOS,))), reader)
    expected, _ = slow_confidence(prompt, target, tail=(EOS,), **how)
    assert by_confidence[0].sums[0] == pytest.approx(expected, abs=1e-5)
    assert by_confidence[0].forwards == 2 * len(target)
    rule = partial(likelihood, masking=Masking(MASK), samples=7, seed=0, sure=0.0)
    exact = scores_of(items, rule, reader)
    assert exact[0].sums[0] == pytest.approx(slow_bound(prompt, target, **how), abs=1e-5)


def test_one_shot_reads_all_tokens_of_one_canvas():
    prompt, target = [1, 2], [3, 4, 5]
    log_probs = log_probs_of([*prompt, MASK, MASK, MASK])
    expected = sum(float(log_probs[2 + i, token]) for i, token in enumerate(target))
    rule = partial(one_shot, masking=Masking(MASK))
    (scores,) = scores_of([item_of(prompt, target)], rule, reader_of())
    assert scores.sums[0] == pytest.approx(expected, abs=1e-6)
    assert scores.forwards == 1


@pytest.fixture
def mixed_items():
    """Twenty items with prompts of 0 to 6 tokens and choices of 1 to 5."""
    random = np.random.default_rng(0)
    return [
        item_of(
            random.integers(0, 10, i % 7),
            *(random.integers(0, 10, random.integers(1, 6)) for _ in range(4)),
            key=i,
        )
        for i in range(20)
    ]


@pytest.mark.parametrize(
    "rule",
    [
        partial(confidence, masking=Masking(MASK)),
        partial(one_shot, masking=Masking(MASK, (EOS,))),
        partial(likelihood, masking=Masking(MASK), samples=20, seed=3, sure=2.0),
    ],
    ids=["confidence", "one-shot", "likelihood"],
)
def test_the_batch_does_not_matter(mixed_items, rule):
    alone = [scores_of([item], rule, reader_of(budget_tokens=1))[0] for item in mixed_items]
    for settings in ({"budget_tokens": 40}, {"budget_rows": 5}, {}):
        together = scores_of(mixed_items, rule, reader_of(**settings))
        for one, other in zip(alone, together, strict=True):
            assert one.sums == pytest.approx(other.sums, abs=1e-9)
            assert (one.orders, one.forwards) == (other.orders, other.forwards)


def test_what_has_come_is_scored_while_the_rest_is_awaited(mixed_items):
    rule = partial(one_shot, masking=Masking(MASK))
    expected = scores_of(mixed_items[:3], rule, reader_of())
    scorer, found = Scorer(reader_of()), []
    for arriving in ([], mixed_items[:1], mixed_items[1:3], []):
        for item in arriving:
            scorer.add(item, rule)
        found.append([scores for batch in scorer.step() for scores in batch.scores])
    assert [len(scores) for scores in found] == [0, 1, 2, 0]
    assert [scores.sums for round in found for scores in round] == [s.sums for s in expected]
    assert scorer.has_room


def test_choices_of_one_token_share_one_forward_and_one_row():
    asked = []

    def recorded(ids_T, segment_ends, rows_M):
        asked.append((ids_T.tolist(), list(segment_ends), rows_M.tolist()))
        return toy_logits(ids_T, segment_ends, rows_M)

    item = item_of([1, 2], [3], [4], [5], [6])
    for rule in (
        partial(confidence, masking=Masking(MASK)),
        partial(likelihood, masking=Masking(MASK), samples=128, seed=0, sure=0.0),
    ):
        asked.clear()
        (scores,) = scores_of([item], rule, reader_of(recorded))
        assert asked == [([1, 2, MASK], [3], [2])]
        assert scores.forwards == 1
        assert len(set(scores.sums)) == 4


def test_no_row_that_nobody_reads_reaches_the_head(mixed_items):
    def only_masks(ids_T, segment_ends, rows_M):
        assert (ids_T[rows_M] == MASK).all()
        assert len(rows_M.unique()) == len(rows_M)
        return toy_logits(ids_T, segment_ends, rows_M)

    assert scores_of(mixed_items, partial(confidence, masking=Masking(MASK)), reader_of(only_masks))


def test_batches_keep_their_budgets(mixed_items):
    def small(ids_T, segment_ends, rows_M):
        assert len(ids_T) <= 30
        assert len(rows_M) <= 8
        return toy_logits(ids_T, segment_ends, rows_M)

    reader = reader_of(small, budget_tokens=30, budget_rows=8)
    assert scores_of(mixed_items, partial(confidence, masking=Masking(MASK)), reader)


def test_a_clear_lead_stops_the_draws_and_a_tie_does_not():
    random = np.random.default_rng(0)
    prompt, best, worst = ([int(x) for x in random.integers(0, 10, n)] for n in (3, 9, 9))
    stopping = partial(likelihood, masking=Masking(MASK), samples=256, seed=0, sure=3.0)
    clear, tie = scores_of(
        [item_of(prompt, best, worst), item_of(prompt, best, best)], stopping, reader_of()
    )
    assert clear.samples < 256
    assert tie.samples == 256
    never = partial(likelihood, masking=Masking(MASK), samples=256, seed=0, sure=0.0)
    (full,) = scores_of([item_of(prompt, best, worst)], never, reader_of())
    assert full.samples == 256
    assert pick(full.sums, (1, 1)) == pick(clear.sums, (1, 1))
    for one, other, error in zip(clear.sums, full.sums, clear.standard_errors, strict=True):
        assert abs(one - other) < 4 * error


def test_choices_of_an_item_meet_the_same_masks():
    """Equal targets differ by nothing, however few the draws; their gap carries no noise."""
    target = list(range(10)) * 2
    rule = partial(likelihood, masking=Masking(MASK), samples=4, seed=9, sure=0.0)
    (scores,) = scores_of([item_of([1], target, target)], rule, reader_of())
    assert scores.sums[0] == scores.sums[1]
    assert scores.forwards <= 4


def test_draws_hide_every_count_equally_often():
    drawn = draw(length=16, samples=64, seed=1, key=5)
    counts, times = np.unique(drawn.hidden_NL.sum(axis=1), return_counts=True)
    assert counts.tolist() == list(range(1, 17))
    assert times.tolist() == [4] * 16
    assert not drawn.exact


def test_draws_are_a_function_of_seed_and_key_and_grow_at_the_end():
    assert (draw(30, 8, seed=1, key=2).hidden_NL == draw(30, 8, seed=1, key=2).hidden_NL).all()
    assert (draw(30, 8, seed=1, key=2).hidden_NL != draw(30, 8, seed=2, key=2).hidden_NL).any()
    assert (draw(30, 8, seed=1, key=2).hidden_NL != draw(30, 8, seed=1, key=3).hidden_NL).any()
    assert (ratios(32, 1, 2)[:8] == ratios(8, 1, 2)).all()
    few, many = draw(30, 8, seed=1, key=2), draw(30, 16, seed=1, key=2)
    sets = {row.tobytes() for row in many.hidden_NL}
    assert all(row.tobytes() in sets for row in few.hidden_NL)


@pytest.mark.parametrize("stride", [4, 7, 10])
def test_windows_score_every_token_once_with_what_precedes_it(stride):
    ids_T = np.arange(100, 123)
    pieces = list(windows(ids_T, window=10, stride=stride, prefix=(0,)))
    assert np.concatenate([piece.choices[0] for piece in pieces]).tolist() == ids_T.tolist()
    for piece in pieces:
        whole = np.concatenate((piece.prompt, piece.choices[0]))
        assert len(whole) <= 10
        assert (np.diff(whole[whole >= 100]) == 1).all()
    assert pieces[0].prompt.tolist() == [0]


def test_the_text_bound_of_a_uniform_model_is_its_vocabulary():
    def uniform(ids_T, segment_ends, rows_M):
        return torch.zeros(len(rows_M), VOCABULARY)

    pieces = list(windows(np.arange(50) % 10, window=16, stride=16, prefix=()))
    rule = partial(likelihood, masking=Masking(MASK), samples=8, seed=0, sure=0.0)
    bound = TextBound.of(scores_of(pieces, rule, reader_of(uniform)), tokens=50, text_bytes=100)
    assert bound.perplexity == pytest.approx(VOCABULARY)
    assert bound.bits_per_byte == pytest.approx(log(VOCABULARY, 2) / 2)
    assert bound.perplexity_error == pytest.approx(0.0, abs=1e-6)
    assert bound.windows == 4


def test_the_text_bound_is_the_chain_of_its_windows():
    text = [1, 2, 3, 4, 5, 6]
    rule = partial(likelihood, masking=Masking(MASK), samples=7, seed=0, sure=0.0)
    pieces = list(windows(np.array(text), window=5, stride=3, prefix=(9,)))
    bound = TextBound.of(scores_of(pieces, rule, reader_of()), tokens=6, text_bytes=6)
    expected = slow_bound([9], [1, 2, 3]) + slow_bound([2, 3], [4, 5, 6])
    assert bound.nats == pytest.approx(-expected, abs=1e-5)
    assert bound.standard_error == 0.0


def test_wilson_interval_against_its_defining_equation():
    for right, total in ((0, 5), (3, 7), (40, 64), (64, 64)):
        for bound in wilson_interval(right, total):
            spread = 1.959964 * sqrt(bound * (1 - bound) / total)
            assert abs(right / total - bound) == pytest.approx(spread, abs=1e-9)
