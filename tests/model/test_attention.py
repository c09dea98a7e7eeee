from random import Random

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.model.attention import (
    BACKENDS,
    Segments,
    choose_backend,
    fault,
    packed_attention,
    query_attention,
)
from illada_core.model.kernels import matmul_attention

CPU = torch.device("cpu")
GPU_BACKENDS = ("varlen", "flash")


def ragged(tokens, longest, seed):
    """Return the ends of segments of random lengths that fill `tokens`."""
    random, ends = Random(seed), [0]
    while ends[-1] < tokens:
        ends.append(min(tokens, ends[-1] + random.randint(1, longest)))
    return tuple(ends[1:])


LAYOUTS = {
    "one": (70,),
    "equal": (32, 64, 96),
    "ragged": ragged(300, 60, seed=1),
    "singles": (1, 2, 3, 40),
    "long": (150, 400),
}


def dense_reference(q_THK, k_TGK, v_TGK, ends):
    """Attend under a dense T x T mask, in float64."""
    q, k, v = (x.double().transpose(0, 1) for x in (q_THK, k_TGK, v_TGK))
    k, v = (x.repeat_interleave(len(q) // len(x), dim=0) for x in (k, v))
    owner_T = torch.bucketize(torch.arange(ends[-1]), torch.tensor(ends), right=True).to(q.device)
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(owner_T[:, None] != owner_T, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1)


def random_inputs(ends, kv_heads, dtype, device=CPU, head_size=16):
    generator = torch.Generator().manual_seed(0)
    shapes = [(ends[-1], heads, head_size) for heads in (4, kv_heads, kv_heads)]
    drawn = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    return [x.requires_grad_() for x in drawn]


def assert_equals_the_dense_reference(ends, backend, kv_heads, dtype, device, tolerance, **sizes):
    inputs = random_inputs(ends, kv_heads, dtype, device, **sizes)
    out = packed_attention(*inputs, Segments.of(ends, device), backend)
    expected = dense_reference(*inputs, ends)
    weight = torch.linspace(-1, 1, out.numel(), device=device).view(out.shape)
    gradients = torch.autograd.grad((out.float() * weight).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), inputs)
    for ours, theirs in zip((out, *gradients), (expected, *expected_gradients), strict=True):
        error = (ours.double() - theirs.double()).norm() / theirs.double().norm()
        assert error < tolerance


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
def test_values_and_gradients_equal_a_dense_mask(layout, kv_heads, backend, monkeypatch):
    monkeypatch.setattr(matmul_attention, "BLOCK_SCORES", 20_000)
    monkeypatch.setattr(matmul_attention, "MIN_BLOCK_ROWS", 48)  # several blocks, one short
    ends = LAYOUTS[layout]
    assert_equals_the_dense_reference(ends, backend, kv_heads, torch.float32, CPU, 2e-6)
    assert_equals_the_dense_reference(ends, backend, kv_heads, torch.bfloat16, CPU, 1e-2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
def test_a_changed_segment_leaves_the_others_bits_alone(layout, backend):
    assert_does_not_leak(LAYOUTS[layout], backend, CPU)


def assert_does_not_leak(ends, backend, device):
    inputs = [x.detach() for x in random_inputs(ends, 2, torch.bfloat16, device)]
    segments = Segments.of(ends, device)
    before = packed_attention(*inputs, segments, backend)
    start, end = (0, *ends)[len(ends) // 2], ends[len(ends) // 2]
    for x in inputs:
        x[start:end] = 1e4
    after = packed_attention(*inputs, segments, backend)
    untouched = torch.ones(ends[-1], dtype=torch.bool)
    untouched[start:end] = False
    assert torch.equal(before[untouched], after[untouched])
    assert not torch.equal(before[~untouched], after[~untouched])


def assert_queries_equal_those_of_all_rows(ends, backend, kv_heads, dtype, device, tolerance):
    q, k, v = (x.detach() for x in random_inputs(ends, kv_heads, dtype, device))
    segments = Segments.of(ends, device)
    asked_M = torch.tensor(sorted(Random(3).sample(range(ends[-1]), ends[-1] // 3)), device=device)
    out = query_attention(q[asked_M], k, v, segments.places.asked(asked_M), backend)
    expected = dense_reference(q, k, v, ends)[asked_M]
    assert (out.double() - expected).norm() / expected.norm() < tolerance


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
def test_fewer_queries_than_keys_equal_a_dense_mask(layout, backend, monkeypatch):
    monkeypatch.setattr(matmul_attention, "BLOCK_SCORES", 20_000)
    monkeypatch.setattr(matmul_attention, "MIN_BLOCK_ROWS", 48)
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.bfloat16, 1e-2)):
        assert_queries_equal_those_of_all_rows(LAYOUTS[layout], backend, 2, dtype, CPU, tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", GPU_BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_packed_kernels_equal_a_dense_mask_and_do_not_leak(backend, layout, kv_heads):
    device = torch.device("cuda")
    try:
        choose_backend(device, torch.bfloat16, backend)
    except UsageError as absent:
        pytest.skip(absent.sentence)
    assert_equals_the_dense_reference(
        LAYOUTS[layout], backend, kv_heads, torch.bfloat16, device, 1e-2, head_size=64
    )
    assert_does_not_leak(LAYOUTS[layout], backend, device)
    assert_queries_equal_those_of_all_rows(
        LAYOUTS[layout], backend, kv_heads, torch.bfloat16, device, 1e-2
    )


def test_the_backend_fits_the_device_and_dtype():
    assert choose_backend("cpu", torch.float32)[0] == "sdpa"
    name, reason = choose_backend("cpu", torch.bfloat16)
    assert name == "matmul"
    assert "CPU" in reason
    assert choose_backend("cpu", torch.bfloat16, "sdpa") == ("sdpa", "asked for")


@pytest.mark.parametrize("backend", GPU_BACKENDS)
@pytest.mark.parametrize("head_size", [20, 264])
def test_packed_kernels_are_refused_for_heads_that_they_do_not_take(backend, head_size):
    told = fault(backend, torch.device("cuda"), torch.bfloat16, head_size)
    assert told == f"takes heads of 8, 16, … 256 channels, not {head_size}"


@pytest.mark.parametrize("backend", GPU_BACKENDS)
def test_a_backend_that_cannot_run_is_refused(backend):
    assert backend in BACKENDS
    with pytest.raises(UsageError, match="needs a CUDA device"):
        choose_backend("cpu", torch.bfloat16, backend)
    with pytest.raises(UsageError, match="unknown attention backend 'fast'"):
        choose_backend("cpu", torch.bfloat16, "fast")
