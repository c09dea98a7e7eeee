"""Dream's sampler as settings: schedule, order and truncation equal its reference step by step."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from illada_core.errors import DataError
from illada_core.evaluation.questions import reader_for
from illada_core.evaluation.scoring import (
    Item,
    Masking,
    confidence,
    likelihood,
    one_shot,
    score,
)
from illada_core.inference.candidates import Choosing, OpenRows
from illada_core.inference.canvas import Gap, Task, continuation
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.commits import dream_quotas, step_quotas
from illada_core.inference.presets import load_preset
from illada_core.inference.requests import Prompting, read_request
from illada_core.inference.rules import ModelIds, Rules
from illada_core.inference.sampler import Commit, Sampler
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import prepare
from illada_core.model.weights import load_model
from tests.conftest import REPO

FOLDER = REPO / "tests" / "fixtures" / "dream-tiny"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
MASK = 506
ORDERS = {"maskgit_plus": "low-confidence", "topk_margin": "margin", "entropy": "entropy"}


@pytest.fixture(scope="module")
def model():
    return load_model(FOLDER)


def steps_of(model, task, settings):
    """Return what stands in the gaps after each step."""
    sampler = Sampler(model.logits_at, ModelIds(MASK, 512))
    sampler.add(task, settings)
    found = []
    while sampler.live:
        events = [event for event in sampler.step() if isinstance(event, Commit)]
        found += [np.concatenate(event.filled).tolist() for event in events]
    return found


def settings_of(case):
    return Settings(
        canvas="fixed",
        max_new_tokens=case["max_new_tokens"],
        block_length=64,
        steps_per_block=case["steps"],
        schedule="dream",
        confidence_from="tempered",
        remasking=ORDERS.get(case["alg"], "random"),
        top_p=case.get("top_p") or 1.0,
        top_k=case.get("top_k"),
    )


@pytest.mark.parametrize("place", range(len(EXPECTED["greedy"])))
def test_greedy_traces_equal_the_reference_step_by_step(model, place):
    case = EXPECTED["greedy"][place]
    task = continuation(case["prompt"], case["max_new_tokens"], grows=False)
    history = [[MASK] * case["max_new_tokens"], *case["history_of_new_part"]]
    written = [after for before, after in pairwise(history) if before != after]
    assert steps_of(model, task, settings_of(case)) == written
    assert step_quotas(case["max_new_tokens"], case["steps"], "dream") == [
        count for count in case["committed_per_step"] if count
    ]


def test_masks_within_a_prompt_are_filled_as_by_the_reference(model):
    case = EXPECTED["infill"]
    ids = case["prompt_with_masks"]
    task = Task(
        (tuple(ids[:2]), tuple(ids[3:5]), tuple(ids[7:9]), tuple(ids[10:]), ()),
        (Gap(1), Gap(2), Gap(1), Gap(1)),
    )
    places = [2, 5, 6, 9, 11]
    found = steps_of(model, task, settings_of(case))
    expected = [[canvas[place] for place in places] for canvas in case["history"]]
    history = [[MASK] * 5, *expected]
    assert found == [after for before, after in pairwise(history) if before != after]


@pytest.mark.parametrize(
    ("masks", "steps"), [(12, 12), (16, 8), (512, 512), (300, 77), (7, 40), (5, 1)]
)
def test_the_schedule_is_that_of_a_plain_loop_in_float32(masks, steps):
    times = torch.linspace(1, 1e-3, steps + 1)
    left, counts = masks, []
    for step in range(steps):
        if step < steps - 1:
            share = 1 - times[step + 1] / times[step]
            count = int(torch.tensor(float(left)) * share)
        else:
            count = left
        counts.append(count)
        left -= count
    assert dream_quotas(masks, steps) == [count for count in counts if count]
    assert sum(counts) == masks


def choice(settings, logits, rows=None):
    rows = rows or OpenRows(
        seed_M2=np.array([[1, 0]]),
        key_M=np.array([7]),
        step_M=np.array([0]),
        position_M=np.array([3]),
        may_end_M=np.array([True]),
    )
    rules = Rules(ids=ModelIds(4), settings=settings)
    return Choosing(rows, rules, "cpu").choose(torch.tensor(logits).log())


def test_confidence_is_that_of_the_distribution_drawn_from():
    logits = [[0.5, 0.3, 0.1, 0.1, 1e-9]]
    raw = choice(Settings(), logits)
    assert raw.confidence[0] == pytest.approx(0.5, abs=1e-6)
    tempered = Settings(confidence_from="tempered", temperature=0.5, seed=3)
    squares = {token: p**2 / 0.36 for token, p in enumerate(logits[0])}
    found = choice(tempered, logits)
    assert found.confidence[0] == pytest.approx(squares[int(found.token[0])], abs=1e-6)
    cut = choice(Settings(confidence_from="tempered", top_p=0.6), logits)
    assert cut.confidence[0] == pytest.approx(0.5 / 0.8, abs=1e-6)
    cut = choice(Settings(confidence_from="tempered", top_k=3, remasking="margin"), logits)
    assert cut.confidence[0] == pytest.approx(0.2 / 0.9, abs=1e-6)


def many_rows(count, seed=1):
    places = np.arange(count)
    return OpenRows(
        seed_M2=np.tile([[seed, 0]], (count, 1)),
        key_M=np.zeros(count, dtype=np.int64),
        step_M=np.zeros(count, dtype=np.int64),
        position_M=places,
        may_end_M=np.ones(count, dtype=bool),
    )


def test_top_k_draws_only_from_the_likeliest():
    logits = [[0.4, 0.3, 0.2, 0.1, 1e-9]] * 500
    found = choice(Settings(temperature=1.0, top_k=2), logits, many_rows(500))
    shares = np.bincount(found.token, minlength=5) / 500
    assert shares[2:].tolist() == [0, 0, 0]
    assert shares[0] == pytest.approx(4 / 7, abs=0.07)


def test_the_order_is_drawn_by_the_temperature_of_the_confidence():
    """The first of two is one draw from softmax(confidence / alg_temp)."""
    sure = [[0.9, 0.05, 0.03, 0.02, 1e-9], [0.6, 0.2, 0.1, 0.1, 1e-9]]
    settings = Settings(alg_temp=0.3)
    first = 0
    for seed in range(400):
        found = choice(replace(settings, seed=seed), sure, many_rows(2, seed))
        first += int(found.confidence[0] > found.confidence[1])
    expected = np.exp(0.9 / 0.3) / (np.exp(0.9 / 0.3) + np.exp(0.6 / 0.3))
    assert first / 400 == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("place", range(len(EXPECTED["scores"])))
def test_scores_under_the_shift_equal_the_reference(model, place):
    case = EXPECTED["scores"][place]
    target = np.array(case["target"])
    item = Item(np.array(case["prefix"]), (target,), (1.0,))
    reader = reader_for(model, MASK, 0.0, "cpu", None)

    def found(rule):
        (scores,) = [each for batch in score([item], rule, reader) for each in batch.scores]
        return scores

    masking = Masking(MASK)
    bound = found(lambda item: likelihood(item, masking, 2 ** len(target) - 1, 0, 0))
    assert bound.sums[0] == pytest.approx(case["bound_exact"], abs=1e-3)
    assert bound.standard_errors == (0.0,)
    surest = found(lambda item: confidence(item, masking))
    assert surest.sums[0] == pytest.approx(case["most_confident_first"], abs=1e-3)
    assert list(surest.orders[0]) == case["order_of_most_confident_first"]
    at_once = found(lambda item: one_shot(item, masking))
    assert at_once.sums[0] == pytest.approx(case["all_masked_at_once"], abs=1e-3)


def test_a_text_that_begins_with_a_gap_is_refused():
    checkpoint = open_checkpoint(FOLDER)
    request = read_request(None, {"infill_ids": [MASK, 4, 5]})
    with pytest.raises(DataError, match="the text begins with a gap"):
        prepare(request, checkpoint, Settings(), Prompting())


def test_presets_name_what_dream_does():
    assert load_preset("dream")["remasking"] == "entropy"
    assert Settings(**load_preset("dream-eval")).schedule == "dream"
