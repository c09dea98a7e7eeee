"""Steps decided ahead on the device: whatever their number, the texts of one step at a time."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from illada_core.errors import DataError
from illada_core.inference.cache import Cache
from illada_core.inference.canvas import Gap, Task, continuation
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Commit, Sampler
from illada_core.inference.settings import Settings
from illada_core.model.families.family import FULL_OWN
from illada_core.model.initial import new_model
from tests.model.test_transformer import TINY

MASK, EOS, VOCABULARY = 0, 3, TINY.vocab_size
IDS = ModelIds(MASK, eos_ids=(EOS,))
MODEL = new_model(TINY, seed=3)
TASKS = [
    continuation([7, 8, 9], 20),
    continuation([10, 11], 13, grows=False),
    Task(((6, 7), (12, 13), (14,)), (Gap(9), Gap(5))),
    continuation([4, 4, 20, 21, 22], 24),
]
RULES = [
    {},
    {"steps_per_block": 3},
    {"schedule": "dream", "steps_per_block": 4},
    {"threshold": 0.08},
    {"factor": 1.9},
    {"entropy_bound": 3.0},
    {"remasking": "random"},
    {"remasking": "margin", "alg_temp": 0.5},
    {"temperature": 0.9, "seed": 11},
    {"temperature": 0.7, "top_p": 0.9, "threshold": 0.1},
    {"cfg": 1.5, "steps_per_block": 5},
    {"eos_guard": "confidence", "steps_per_block": 2},
]
CACHES = [
    {},
    {"cache": "block"},
    {"cache": "block", "refresh_every": 3, "vicinity": 2},
    {"cache": "block", "refresh_after": 4},
]


class Counting:
    """A model whose calls are counted, that likes some tokens better."""

    def __init__(self, likes=None):
        self.calls, self.likes = 0, likes or {}

    def new_memory(self, slots):
        return MODEL.new_memory(slots)

    def liked(self, logits_MV):
        self.calls += 1
        logits_MV = 6 * logits_MV
        for token, addition in self.likes.items():
            logits_MV[:, token] += addition
        return logits_MV

    def logits_at(self, ids_T, segment_ends, rows_M):
        return self.liked(MODEL.logits_at(ids_T, segment_ends, rows_M))

    def logits_in(self, ids_T, window, rows_M, memory):
        return self.liked(MODEL.logits_in(ids_T, window, rows_M, memory))


class Close:
    """Numbers up to rounding: rows that are closed are computed too, in sums of another shape."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __eq__(self, other):
        return np.allclose(self.numbers, other.numbers, rtol=1e-4, atol=1e-6)

    def __repr__(self):
        return repr(self.numbers)


def told(event):
    """All that an event says, as plain values."""
    fields = vars(event).items()
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields}
    if isinstance(event, Commit):
        plain["filled"] = [ids.tolist() for ids in event.filled]
        plain["confidence_B"] = Close(event.confidence_B)
    return plain


def run(each, ahead, model, budget=10_000):
    """Return what is told of each task, in the order of its steps."""
    cache = Cache(model, 4096, FULL_OWN)
    sampler = Sampler(model.logits_at, IDS, budget, cache, ahead)
    for task, settings in each:
        sampler.add(task, settings)
    heard = {index: [] for index in sampler.live}
    while sampler.live:
        for event in sampler.step():
            heard[event.index].append(told(event))
    return heard


@pytest.mark.parametrize(("rule", "kept"), list(itertools.product(RULES, CACHES)), ids=str)
def test_any_number_of_steps_ahead_tells_the_same(rule, kept):
    settings = Settings(block_length=8, **rule, **kept)
    each = [(task, settings) for task in TASKS]
    expected = run(each, 1, Counting({EOS: 1.0}))
    for ahead in (2, 4, 50):
        assert run(each, ahead, Counting({EOS: 1.0})) == expected


def test_prompts_of_different_settings_go_ahead_together():
    each = [
        (task, Settings(block_length=length, **rule))
        for (task, rule), length in zip(
            itertools.product(TASKS, RULES), itertools.cycle((3, 8, 32)), strict=False
        )
    ]
    assert run(each, 4, Counting()) == run(each, 1, Counting())
    assert run(each, 4, Counting(), budget=90) == run(each, 1, Counting(), budget=90)


def test_a_text_that_ends_among_steps_ahead_ends_where_it_did():
    settings = Settings(block_length=8)
    each = [(continuation([7, 8, 9], 40), settings), (continuation([6], 40), settings)]
    for liking in (0.5, 2.0, 4.0, 30.0):
        assert run(each, 8, Counting({EOS: liking})) == run(each, 1, Counting({EOS: liking}))


def test_a_stop_string_is_found_at_the_same_step():
    def find_stop(ids):
        return next((at for at, token in enumerate(ids) if token in (9, 13, 17)), None)

    found = {}
    for ahead in (1, 4):
        sampler = Sampler(Counting().logits_at, IDS, ahead=ahead)
        sampler.add(TASKS[0], Settings(block_length=4), find_stop)
        found[ahead] = [told(event) for event in iter_events(sampler)]
    assert found[4] == found[1]
    assert found[1][-1]["finish_reason"] == "stop"


def iter_events(sampler):
    while sampler.live:
        yield from sampler.step()


def test_steps_whose_number_is_known_are_called_no_more_often():
    """Without a rule beside the quota, each forward is one that the host would have asked for."""
    each = [(continuation([7, 8, 9], 24, grows=False), Settings(block_length=8))]
    one, many = Counting({EOS: -99.0}), Counting({EOS: -99.0})
    assert run(each, 1, one) == run(each, 5, many)
    assert one.calls == many.calls == 24


def test_a_rule_that_ends_a_block_early_costs_less_than_it_saves():
    """How far is looked ahead comes from how many tokens a step has written so far."""
    settings = Settings(block_length=8, threshold=0.0)
    each = [(continuation([7, 8, 9], 64, grows=False), settings)]
    model = Counting({EOS: -99.0})
    run(each, 8, model)
    assert model.calls <= 8 + 7  # the first block is foreseen a token a step


def test_the_end_of_thinking_is_decided_step_by_step():
    settings = Settings(block_length=8, end_thinking_boost=9.0)
    told_by = {}
    for ahead in (1, 4):
        model = Counting()
        sampler = Sampler(model.logits_at, IDS, ahead=ahead)
        sampler.add(TASKS[0], settings, end_thinking_ids=(17, 18))
        told_by[ahead] = [told(event) for event in iter_events(sampler)], model.calls
    assert told_by[4] == told_by[1]


def test_one_transfer_for_all_steps(monkeypatch):
    """The host reads numbers of the device once for each call of `step`."""
    read = []
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda tensor, _cpu=torch.Tensor.cpu: read.append(1) or _cpu(tensor)
    )
    sampler = Sampler(Counting().logits_at, IDS, ahead=4)
    sampler.add(continuation([7, 8], 8, grows=False), Settings(block_length=8))
    while sampler.live:
        sampler.step()
    assert (len(read), sampler.forwards) == (2, 8)


@pytest.mark.parametrize("ahead", [1, 3])
def test_logits_that_are_not_numbers_are_an_error(ahead):
    def broken(ids_T, segment_ends, rows_M):
        return torch.full((len(rows_M), VOCABULARY), torch.nan)

    sampler = Sampler(broken, IDS, ahead=ahead)
    sampler.add(TASKS[0], replace(Settings(), block_length=4))
    with pytest.raises(DataError, match="not numbers"):
        sampler.step()
