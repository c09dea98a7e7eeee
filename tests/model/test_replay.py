"""Replayed passes equal those that are computed, whatever else their bucket has room for.

What records here does the work again on a CPU, from the same buffers: a number that was baked in
when it was recorded shows.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.inference.cache import Cache
from illada_core.inference.canvas import continuation
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.model import attention
from illada_core.model.families.family import FULL_OWN
from illada_core.model.initial import new_model
from illada_core.model.memory import KeyValues, Window
from illada_core.model.replay import FEWEST_KEYS, MOST_ROWS, Replay
from tests.model.test_transformer import CPU, TINY
from tests.training.packed_kernel import flash_attention, packed_kernel

IDS = ModelIds(mask_id=5)


class Again:
    """Work that is done again into the same tensor."""

    def __init__(self, work):
        self.work, self.result = work, work().clone()
        self.result.fill_(torch.nan)

    def replay(self):
        self.result.copy_(self.work())


@pytest.fixture(autouse=True)
def packed(monkeypatch):
    monkeypatch.setattr(attention, "packed_kernel", packed_kernel)
    monkeypatch.setattr(attention, "flash_attention", flash_attention)
    with torch.inference_mode():
        yield


def recording(model):
    """Return a model whose passes are replayed, and the list of what it records."""
    recorded = []

    def record(work):
        recorded.append(Again(work))
        return recorded[-1]

    return Replay(model, record), recorded


def drawn_ids(seed, count):
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(6, TINY.vocab_size, (count,), generator=draws)


# Rows of each text, of which some share a bucket: as many texts, rows and asked rows as need be.
PASSES = [
    ([range(4, 9)], [(0, 20)], [1, 3]),
    ([range(1, 32)], [(3, 60)], [30, 2, 2, 9]),
    ([range(2, 4), range(10), range(5, 7)], [(70, 90), (0, 10), (20, 31)], [1, 5, 13]),
    ([range(8), range(7), range(6), range(9)], [(0, 8), (8, 15), (15, 21), (21, 30)], range(30)),
    ([range(40)], [(5, 70)], range(40)),
]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replayed_pass_equals_the_pass(dtype, shift):
    config = replace(TINY, shift=shift)
    model = new_model(config, seed=0, compute_dtype=dtype, backend="varlen")
    replayed, recorded = recording(model)
    memories = [KeyValues(config, 100, CPU, dtype) for _ in range(2)]
    for memory in memories:
        draws = torch.Generator().manual_seed(9)
        for kept in (memory.k_LSGK, memory.v_LSGK):
            kept.copy_(torch.randn(kept.shape, generator=draws))
    near = {torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for seed, (positions, spans, rows) in enumerate(PASSES + PASSES[::-1]):
        window, rows_M = Window.of(positions, spans), torch.tensor(rows)
        ids_T = drawn_ids(seed, sum(map(len, positions)))
        found_MV = replayed.logits_in(ids_T, window, rows_M, memories[0])
        expected_MV = model.logits_in(ids_T, window, rows_M, memories[1])
        torch.testing.assert_close(found_MV, expected_MV, rtol=near, atol=near)
        for kept in ("k_LSGK", "v_LSGK"):
            of_both = (getattr(memory, kept) for memory in memories)
            torch.testing.assert_close(*of_both, rtol=near, atol=near)
    assert len(recorded) == 3, "rows to 32 of one text, of four, and more rows"


def test_whole_texts_are_replayed_from_a_memory_of_their_own():
    model = new_model(TINY, seed=0, backend="varlen")
    replayed, recorded = recording(model)
    for ends in ((9, 20), (3, 31), (30,), (2, 3, 17)):
        ids_T, rows_M = drawn_ids(len(ends), ends[-1]), torch.tensor([0, 2, 1])
        expected_MV = model.logits_at(ids_T, ends, rows_M)
        torch.testing.assert_close(replayed.logits_at(ids_T, ends, rows_M), expected_MV)
    assert len(recorded) == 3, "of one, two and four texts"


def test_long_passes_and_causal_ones_are_not_recorded():
    long = torch.arange(MOST_ROWS + 1) % TINY.vocab_size
    for config, ids_T in ((TINY, long), (replace(TINY, attention="causal"), long[:9])):
        model = new_model(config, seed=0, backend="varlen")
        replayed, recorded = recording(model)
        if not config.is_causal:
            ends, rows_M = (len(ids_T),), torch.tensor([3])
            expected_MV = model.logits_at(ids_T, ends, rows_M)
            torch.testing.assert_close(replayed.logits_at(ids_T, ends, rows_M), expected_MV)
        assert not recorded


@pytest.mark.parametrize(
    "changes", [{}, {"cfg": 0.5}, {"threshold": 0.05}, {"temperature": 0.8, "seed": 3}]
)
@pytest.mark.parametrize("keeps", ["none", "block"])
def test_texts_are_the_same(keeps, changes):
    model = new_model(TINY, seed=0, backend="varlen")
    replayed, recorded = recording(model)
    settings = Settings(block_length=8, max_new_tokens=20, cache=keeps, **changes)
    tasks = [
        continuation(tuple(drawn_ids(seed, length).tolist()), 20)
        for seed, length in ((0, 7), (1, 30), (2, 3))
    ]
    found = []
    for asked in (model, replayed):
        for ahead in (1, 4):
            cache = Cache(asked, 4096, FULL_OWN)
            sampler = Sampler(asked.logits_at, IDS, cache=cache, ahead=ahead)
            found.append([done.fills for done in generate(sampler, tasks, settings)])
    assert found[0] == found[1] == found[2] == found[3]
    assert recorded


def test_a_replay_that_differs_from_its_pass_is_refused():
    """A graph that kept a number of the host's would write wrong texts in silence."""
    model = new_model(TINY, seed=0, backend="varlen")

    class Other(Again):
        def replay(self):
            self.result.copy_(1.1 * self.work())

    ids_T, rows_M = drawn_ids(0, 9), torch.tensor([0, 2])
    for wrong in (Other, NotDone):
        with pytest.raises(UsageError, match="replayed pass gives other logits"):
            Replay(model, wrong).logits_at(ids_T, (9,), rows_M)


class NotDone(Again):
    """Work whose result nobody writes."""

    def replay(self):
        pass


def test_what_was_recorded_for_a_memory_goes_with_it():
    model = new_model(TINY, seed=0, backend="varlen")
    replayed = Replay(model, lambda work: Again(partial(torch.clone, work())))
    memory = replayed.new_memory(FEWEST_KEYS)
    window, rows_M = Window.of([range(3)], [(0, 3)]), torch.tensor([0])
    replayed.logits_in(drawn_ids(0, 3), window, rows_M, memory)
    assert len(replayed.passes) == 1
    del memory
    assert not replayed.passes
