"""Blocks filled over kept keys and values: exact where all is computed, and the same in company."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from illada_core.inference.cache import Cache, Pass, Slots, View
from illada_core.inference.canvas import Gap, Task, continuation
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Commit, Completion, Sampler
from illada_core.inference.settings import Settings
from illada_core.model import attention
from illada_core.model.attention import Segments
from illada_core.model.families.family import FULL_NEXT, FULL_OWN
from illada_core.model.initial import new_model
from illada_core.model.memory import KeyValues, Window
from tests.model.test_transformer import TINY
from tests.training.packed_kernel import packed_kernel

MASK, EOS = 0, 3
IDS = ModelIds(MASK, TINY.vocab_size, (EOS,))
PLAIN = Settings(block_length=8, max_new_tokens=24)
KEPT = replace(PLAIN, cache="block")
EVERY = replace(PLAIN, cache="block", refresh_every=1)
CASES = [
    pytest.param(backend, dtype, id=f"{backend}-{str(dtype).removeprefix('torch.')}")
    for backend in ("sdpa", "matmul", "varlen")
    for dtype in (torch.float32, torch.bfloat16)
]


def prompt(seed, length):
    return np.random.default_rng(seed).integers(4, TINY.vocab_size, length).tolist()


TASKS = [
    (continuation(prompt(1, 13), 24), {}),
    (continuation(prompt(2, 40), 20), {"threshold": 0.05}),
    (continuation(prompt(3, 5), 24, grows=False), {"cfg": 0.8, "steps_per_block": 3}),
    (
        Task(
            (tuple(prompt(4, 6)), tuple(prompt(5, 9)), tuple(prompt(6, 4))),
            (Gap(11, grows=True, may_end=True), Gap(7)),
        ),
        {"cfg": 0.5},
    ),
    (
        Task((tuple(prompt(7, 3)), tuple(prompt(8, 2)), (), (9,)), (Gap(9), Gap(3), Gap(4))),
        {"temperature": 0.9, "seed": 4},
    ),
]


class Poisoned:
    """A model whose memory spoils all that meets a slot nobody has written."""

    def __init__(self, model):
        self.model, self.longest = model, 0

    def new_memory(self, slots):
        return spoilt(self.model.new_memory(slots))

    def logits_in(self, ids_T, window, rows_M, memory):
        self.longest = max(self.longest, memory.slots)
        return self.model.logits_in(ids_T, window, rows_M, memory)


class Spoilt(KeyValues):
    def grown(self, slots):
        return spoilt(super().grown(slots), self.slots)


def spoilt(memory, start=0):
    memory.__class__ = Spoilt
    memory.k_LSGK[:, start:] = torch.nan
    memory.v_LSGK[:, start:] = torch.nan
    return memory


def model_of(backend="sdpa", dtype=torch.float32, seed=0):
    return new_model(TINY, seed=seed, compute_dtype=dtype, backend=backend)


def run(model, tasks, base, batch_tokens=10_000, most_tokens=10_000):
    """Return the commits and the completion of each task, and the sampler."""
    cache = Cache(Poisoned(model), most_tokens, FULL_OWN)
    sampler = Sampler(model.logits_at, IDS, batch_tokens=batch_tokens, cache=cache)
    waiting, commits, done = list(tasks), {}, {}
    while waiting or sampler.live:
        while waiting and sampler.has_room:
            task, changes = waiting.pop(0)
            sampler.add(task, replace(base, **changes))
        for event in sampler.step():
            if isinstance(event, Commit):
                commits.setdefault(event.index, []).append(event)
            else:
                done[event.index] = event
    return [(commits[index], done[index]) for index in sorted(done)], sampler


def same(found, expected):
    """Tell whether two runs wrote the same tokens from the same numbers."""
    for (steps, done), (expected_steps, expected_done) in zip(found, expected, strict=True):
        assert done.fills == expected_done.fills
        assert done.finish_reason == expected_done.finish_reason
        for step, other in zip(steps, expected_steps, strict=True):
            assert step.position_B.tolist() == other.position_B.tolist()
            assert step.token_B.tolist() == other.token_B.tolist()
            assert step.confidence_B.tolist() == other.confidence_B.tolist()
    return True


@pytest.mark.parametrize(("backend", "dtype"), CASES)
def test_computing_all_positions_at_each_step_equals_no_cache_bit_for_bit(
    backend, dtype, monkeypatch
):
    monkeypatch.setattr(attention, "packed_kernel", packed_kernel)
    model = model_of(backend, dtype)
    expected, _ = run(model, TASKS, PLAIN)
    for ways in (EVERY, replace(KEPT, refresh_after=1), replace(KEPT, vicinity=99)):
        found, _ = run(model, TASKS, ways)
        assert same(found, expected)
        for (_, done), (_, plain) in zip(found, expected, strict=True):
            assert done.exact
            assert plain.exact
            assert (done.refreshes, done.rows_computed) == (plain.refreshes, plain.rows_computed)


@pytest.mark.parametrize(("backend", "dtype"), CASES)
def test_a_prompt_with_kept_keys_gives_the_same_alone_and_in_company(backend, dtype, monkeypatch):
    monkeypatch.setattr(attention, "packed_kernel", packed_kernel)
    model = model_of(backend, dtype)
    ways = replace(KEPT, refresh_every=5, vicinity=1)
    mixed = [*TASKS, (TASKS[0][0], {"cache": "none"}), (TASKS[1][0], {"refresh_after": 3})]
    together, _ = run(model, mixed, ways, batch_tokens=90)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for task, (steps, done) in zip(mixed, together, strict=True):
        [(alone_steps, alone)], _ = run(model, [task], ways)
        assert done.rows_computed == alone.rows_computed
        if dtype == torch.float32:
            assert done.fills == alone.fills
        first, expected = steps[0].confidence_B, alone_steps[0].confidence_B
        np.testing.assert_allclose(first, expected, atol=tolerance)
    assert not any(done.exact for index, (_, done) in enumerate(together) if index != 5)
    assert together[5][1].exact


def plain_loop(model, ids, new_tokens, block_length, refresh_every):
    """Fill blocks greedily, a token a step, over a memory of one text; return the new tokens."""
    memory, canvas = model.new_memory(len(ids) + new_tokens), list(ids)
    for _ in range(new_tokens // block_length):
        first = len(canvas)
        canvas += [MASK] * block_length
        for step in range(block_length):
            start = first if step % refresh_every else 0
            still = [place for place in range(first, len(canvas)) if canvas[place] == MASK]
            window = Window.of([range(start, len(canvas))], [(0, len(canvas))])
            rows_M = torch.tensor(still) - start
            logits_MV = model.logits_in(torch.tensor(canvas[start:]), window, rows_M, memory)
            p_MV = logits_MV.softmax(-1)
            p_MV[:, [MASK, EOS]] = 0
            best = int(p_MV.amax(-1).argmax())
            canvas[still[best]] = int(p_MV[best].argmax())
    return tuple(canvas[len(ids) :])


@torch.inference_mode()
@pytest.mark.parametrize("refresh_every", [None, 3])
def test_tokens_are_those_of_a_plain_loop(refresh_every):
    ways = replace(KEPT, refresh_every=refresh_every, eos_guard="logits")
    for seed in range(3):
        model, ids = model_of(seed=seed), prompt(seed, 20 + seed)
        [(_, done)], _ = run(model, [(continuation(ids, 24), {})], ways)
        assert done.output_ids == plain_loop(model, ids, 24, 8, refresh_every or 8)


def test_the_first_pass_of_a_block_is_over_all_rows_and_the_others_over_the_block():
    [(steps, done)], _ = run(model_of(), [(continuation(prompt(1, 13), 24), {})], KEPT)
    blocks = [21, 29, 37]
    assert [step.exact for step in steps] == [True, *[False] * 7] * 3
    assert (done.forwards, done.refreshes) == (24, 3)
    assert done.rows_computed == sum(blocks) + 3 * 7 * 8
    assert not done.exact


def test_refreshes_are_counted_by_calls_and_by_committed_tokens():
    task = (continuation(prompt(1, 13), 8), {})
    by_calls, _ = run(model_of(), [task], replace(KEPT, refresh_every=3))
    assert [step.exact for step in by_calls[0][0]] == [True, False, False] * 2 + [True, False]
    quick = replace(KEPT, refresh_after=4, steps_per_block=4)
    by_tokens, _ = run(model_of(), [task], quick)
    assert [step.exact for step in by_tokens[0][0]] == [True, False, True, False]


def test_the_vicinity_is_computed_too():
    task = (continuation(prompt(1, 13), 16, grows=False), {})
    (_, done), *_ = run(model_of(), [task], replace(KEPT, vicinity=3))[0]
    assert done.rows_computed == 2 * 29 + 7 * (8 + 6) + 7 * (8 + 3)


MOVING = Task(
    (tuple(prompt(1, 6)), tuple(prompt(2, 9)), (7,)), (Gap(16, grows=True, may_end=True), Gap(6))
)


def test_gaps_that_move_are_computed_anew():
    [(steps, done)], _ = run(model_of(), [(MOVING, {"eos_guard": "logits"})], KEPT)
    assert max(len(step.filled[0]) for step in steps) == 16
    starts = [0, *(at + 1 for at, step in enumerate(steps[:-1]) if step.block_done)]
    assert [at for at, step in enumerate(steps) if step.exact] == starts
    assert done.refreshes == 3


def test_what_stands_behind_a_cut_is_computed_anew():
    model, cuts = model_of(), 0
    for seed in range(10):
        changes = {"seed": seed, "temperature": 1.5, "stop_ids": tuple(range(4, 30))}
        [(steps, done)], _ = run(model, [(MOVING, changes)], KEPT)
        lengths = [len(step.filled[0]) for step in steps]
        cut = next((at for at in range(len(steps)) if lengths[at] % 8 > 0), None)
        if cut is not None:
            assert steps[cut + 1].exact
            assert done.finish_reason == "stop"
            cuts += 1
    assert cuts > 3


def test_slots_of_prompts_that_left_are_used_again_and_never_more_than_there_may_be():
    model = model_of()
    tasks = [(continuation(prompt(seed, 5 + 7 * (seed % 4)), 16), {}) for seed in range(9)]
    expected, _ = run(model, tasks, KEPT)
    found, sampler = run(model, tasks, KEPT, most_tokens=90)
    assert [done.fills for _, done in found] == [done.fills for _, done in expected]
    assert sampler.cache.memory.slots <= 90
    assert sampler.cache.slots.taken == []
    assert sampler.cache.kept == {}


def test_one_prompt_may_need_more_slots_than_there_may_be():
    model, task = model_of(), (continuation(prompt(1, 40), 16), {"cfg": 0.5})
    expected, _ = run(model, [task], KEPT)
    found, sampler = run(model, [task, (continuation(prompt(2, 3), 8), {})], KEPT, most_tokens=20)
    assert same(found[:1], expected)
    assert sampler.cache.memory.slots == 2 * 56


def test_a_cancelled_prompt_gives_its_slots_back():
    model = model_of()
    sampler = Sampler(model.logits_at, IDS, cache=Cache(model, 100, FULL_OWN))
    index = sampler.add(continuation(prompt(1, 13), 24), KEPT)
    sampler.step()
    assert sampler.cache.slots.taken == [(0, 37)]
    sampler.cancel(index)
    assert sampler.cache.slots.taken == []


def test_slots_are_the_first_that_fit():
    slots = Slots(20)
    assert [slots.reserve(length) for length in (5, 4, 6)] == [(0, 5), (5, 9), (9, 15)]
    assert slots.reserve(6) is None
    slots.free((5, 9))
    assert slots.reserve(5) == (15, 20)
    assert slots.reserve(3) == (5, 8)
    assert slots.reserve(1) == (8, 9)
    assert slots.reserve(1) is None


def test_growing_keeps_what_is_there():
    memory = model_of().new_memory(3)
    memory.k_LSGK.normal_()
    memory.v_LSGK.normal_()
    grown = memory.grown(8)
    assert grown.slots == 8
    assert torch.equal(grown.k_LSGK[:, :3], memory.k_LSGK)
    assert torch.equal(grown.v_LSGK[:, :3], memory.v_LSGK)
    assert grown.nbytes == memory.nbytes // 3 * 8


def test_completions_count_alike_without_a_cache():
    [(steps, done)], _ = run(model_of(), [(continuation(prompt(1, 13), 16), {"cfg": 1.0})], PLAIN)
    assert isinstance(done, Completion)
    assert all(step.exact for step in steps)
    assert (done.refreshes, done.rows_computed) == (16, 8 * 2 * 21 + 8 * 2 * 29)


def test_under_the_shift_a_window_reads_the_rows_before_its_block():
    """Nothing has changed since the whole pass, so the window must say the same of the block."""
    model = new_model(replace(TINY, shift=True), seed=0)
    task = Task(((5, 6, 7), (9, 8), (4,)), (Gap(3), Gap(2)))
    cache = Cache(Poisoned(model), 100, FULL_NEXT)
    sampler = Sampler(model.logits_at, IDS, cache=cache)
    index = sampler.add(task, replace(KEPT, block_length=5))
    canvas = sampler.live[index]
    cache.admit(index, canvas)
    found = []
    for rows in (np.arange(11), np.array([2, 3, 4, 5, 7, 8, 9])):
        own = Pass(index, canvas, cache.rows(index, canvas), len(canvas.ids))
        assert own.row_R.tolist() == rows.tolist()
        with torch.inference_mode():
            call = cache.call([View(own, canvas.ids)])
            found.append(call.logits(call.ids_T))
            cache.note(own)
    with torch.inference_mode():
        ids_T = torch.from_numpy(canvas.ids)
        raw_TV = model.head(model(ids_T, Segments.of((11,), torch.device("cpu"))))
    expected_MV = raw_TV[torch.tensor([2, 3, 4, 7, 8])]
    torch.testing.assert_close(found[0], expected_MV)
    torch.testing.assert_close(found[1], expected_MV)
