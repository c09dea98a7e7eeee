"""Keys and values kept between forward passes, against passes that keep nothing."""

import pytest
import torch

from illada_core.model import attention
from illada_core.model.attention import Segments
from illada_core.model.initial import new_model
from illada_core.model.memory import KeyValues, Window
from tests.model.test_transformer import CPU, TINY
from tests.training.packed_kernel import packed_kernel

LENGTHS = (7, 40, 21)
SPANS = ((50, 57), (3, 43), (60, 81))  # slots in another order than texts, and free ones around
CASES = [
    pytest.param(backend, dtype, id=f"{backend}-{str(dtype).removeprefix('torch.')}")
    for backend in ("sdpa", "matmul")
    for dtype in (torch.float32, torch.bfloat16)
]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def drawn_ids(seed, lengths=LENGTHS):
    draws = torch.Generator().manual_seed(seed)
    return [torch.randint(TINY.vocab_size, (length,), generator=draws) for length in lengths]


def poisoned(model, slots=90):
    """Return a memory of which every slot that nobody has written spoils what it meets."""
    memory = KeyValues(model.config, slots, CPU, model.compute_dtype)
    memory.k_LSGK.fill_(torch.nan)
    memory.v_LSGK.fill_(torch.nan)
    return memory


def pass_over(model, memory, texts, positions, spans=SPANS, rows_M=None):
    """Compute some positions of each text."""
    ids_T = torch.cat([ids[own] for ids, own in zip(texts, positions, strict=True)])
    return model(ids_T, Window.of(positions, spans), rows_M, memory)


def whole(lengths=LENGTHS):
    return [list(range(length)) for length in lengths]


def kept_nowhere(model, texts, rows_M=None):
    ends = torch.tensor([len(ids) for ids in texts]).cumsum(0).tolist()
    return model(torch.cat(texts), Segments.of(tuple(ends), CPU), rows_M)


@pytest.mark.parametrize(("backend", "dtype"), CASES)
@pytest.mark.parametrize("rows", [None, [67, 0, 8, 8, 30]])
def test_a_pass_over_all_rows_equals_one_without_memory_bit_for_bit(backend, dtype, rows):
    model = new_model(TINY, seed=0, compute_dtype=dtype, backend=backend)
    memory, rows_M = poisoned(model), rows and torch.tensor(rows)
    for seed in (1, 2):  # the second meets what the first has left
        texts = drawn_ids(seed)
        found = pass_over(model, memory, texts, whole(), rows_M=rows_M)
        assert torch.equal(found, kept_nowhere(model, texts, rows_M))


@pytest.mark.parametrize(("backend", "dtype"), CASES)
def test_a_window_over_unchanged_texts_equals_a_whole_pass(backend, dtype):
    model = new_model(TINY, seed=0, compute_dtype=dtype, backend=backend)
    memory, texts = poisoned(model), drawn_ids(1)
    expected_TC = pass_over(model, memory, texts, whole())
    positions = [[6], list(range(8, 40, 3)), [20, 0, 5]]
    found_TC = pass_over(model, memory, texts, positions)
    rows = [6, *range(15, 47, 3), 67, 47, 52]
    tolerance = 1e-5 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(found_TC, expected_TC[rows], atol=tolerance, rtol=tolerance)


def test_computed_rows_write_their_slots_and_no_other():
    model = new_model(TINY, seed=0)
    memory, before, after = poisoned(model), drawn_ids(1), drawn_ids(2)
    pass_over(model, memory, before, whole())
    old_LSGK = memory.v_LSGK.clone()
    pass_over(model, memory, after, [[6], [0, 9], [4]])
    written = [56, 3, 12, 64]
    others = [slot for slot in range(90) if slot not in written]
    torch.testing.assert_close(memory.v_LSGK[:, others], old_LSGK[:, others], equal_nan=True)
    assert (memory.v_LSGK[:, written] != old_LSGK[:, written]).any(-1).all()
    first = model.layers[0]
    value_C = first.attention.value(first.attention_norm(model.embedding(after[1][9:10])))
    torch.testing.assert_close(memory.v_LSGK[0, 12].flatten(), value_C[0])


@pytest.mark.parametrize(("backend", "dtype"), CASES)
def test_a_window_alone_equals_one_in_company(backend, dtype):
    model = new_model(TINY, seed=0, compute_dtype=dtype, backend=backend)
    before, after = drawn_ids(1), drawn_ids(2)
    positions = [[6], list(range(8, 40)), [20, 0, 5]]
    memory = poisoned(model)
    pass_over(model, memory, before, whole())
    together_TC = pass_over(model, memory, after, positions)
    rows = torch.tensor([len(own) for own in positions]).tolist()
    for text, found_TC in enumerate(together_TC.split(rows)):
        own = slice(text, text + 1)
        alone = poisoned(model)
        pass_over(model, alone, before[own], whole(LENGTHS[own]), ((30, 30 + LENGTHS[text]),))
        spans = ((30, 30 + LENGTHS[text]),)
        expected_TC = pass_over(model, alone, after[own], positions[own], spans)
        tolerance = 1e-5 if dtype == torch.float32 else 4e-2
        torch.testing.assert_close(found_TC, expected_TC, atol=tolerance, rtol=tolerance)


def test_a_row_outside_its_text_is_refused():
    with pytest.raises(AssertionError, match="outside its text"):
        Window.of([[0, 7]], [(50, 57)])


def test_gradients_and_a_memory_do_not_go_together():
    model = new_model(TINY, seed=0)
    with torch.inference_mode(False), pytest.raises(AssertionError, match="no gradients"):
        pass_over(model, poisoned(model), drawn_ids(1), whole())


def test_packed_kernels_meet_the_slots_of_a_text_only(monkeypatch):
    monkeypatch.setattr(attention, "packed_kernel", packed_kernel)
    found = []
    for backend in ("matmul", "varlen"):
        model = new_model(TINY, seed=0, backend=backend)
        memory, rows_M = poisoned(model), torch.tensor([2, 0, 5])
        pass_over(model, memory, drawn_ids(1), whole())
        found.append(
            pass_over(model, memory, drawn_ids(2), [[6], [9, 8, 30], [20, 0]], rows_M=rows_M)
        )
    assert torch.equal(*found)


def mean_divergence(seed, refresh_every):
    """Return the mean KL, in nats, of a filling block's windows from passes over all rows."""
    model, memory = new_model(TINY, seed=seed), KeyValues(TINY, 40, CPU, torch.float32)
    draws = torch.Generator().manual_seed(seed)
    ids_T = torch.randint(1, TINY.vocab_size, (40,), generator=draws)
    ids_T[24:] = 0
    found = []
    for step, first in enumerate(range(24, 40, 2)):
        start = 0 if step % refresh_every == 0 else 24
        window = Window.of([range(start, 40)], [(0, 40)])
        open_M = torch.arange(first, 40)
        near_MV = model.head(model(ids_T[start:], window, open_M - start, memory)).log_softmax(-1)
        exact_MV = model.logits_at(ids_T, (40,), open_M).log_softmax(-1)
        found.append((exact_MV.exp() * (exact_MV - near_MV)).sum(-1).mean())
        ids_T[first : first + 2] = exact_MV[:2].argmax(-1)
    return torch.stack(found).mean().item()


def test_divergence_does_not_fall_as_passes_over_all_rows_become_rarer():
    means = [sum(mean_divergence(seed, every) for seed in range(3)) / 3 for every in (1, 2, 4, 8)]
    assert means[0] == 0
    assert means[1] > 1e-4
    assert means == sorted(means)
