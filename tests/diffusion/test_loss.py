"""The chunked loss against the plain one: values, gradients, precision and memory."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from illada_core.diffusion import loss
from illada_core.diffusion.loss import masked_cross_entropy
from tests.conftest import command_environment

M, V, C = 37, 61, 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Let the tiny shapes of these tests meet every loop, none of them evenly."""
    monkeypatch.setattr(loss, "CHUNK_ROWS", 10)
    monkeypatch.setattr(loss, "CPU_TILE_LOGITS", 3 * V)
    monkeypatch.setattr(loss, "GRADIENT_BLOCK", 25)


def example(dtype=torch.float32, scale=1.0):
    draw = torch.Generator().manual_seed(0)
    hidden_MC = (scale * torch.randn(M, C, generator=draw)).to(dtype).requires_grad_()
    head_VC = torch.randn(V, C, generator=draw).requires_grad_()
    targets_M = torch.randint(V, (M,), generator=draw)
    return hidden_MC, head_VC, targets_M, 10 * torch.rand(M, generator=draw)


def plain(hidden_MC, head_VC, targets_M, weights_M):
    nll_M = F.cross_entropy(hidden_MC @ head_VC.t(), targets_M, reduction="none")
    return (nll_M * weights_M).sum(), nll_M


def gradients(function, hidden_MC, head_VC, *rest):
    total, nll_M = function(hidden_MC, head_VC, *rest)
    return total, nll_M, *torch.autograd.grad(total / 7, (hidden_MC, head_VC))


def test_values_and_gradients_equal_the_plain_loss():
    ours, theirs = gradients(masked_cross_entropy, *example()), gradients(plain, *example())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-5, atol=1e-6)
    assert not ours[1].requires_grad


def test_bfloat16_products_keep_a_float32_softmax_and_head_gradient():
    hidden_MC, head_VC, *rest = example(torch.bfloat16)
    ours = gradients(masked_cross_entropy, hidden_MC, head_VC, *rest)
    exact = gradients(plain, hidden_MC.float(), head_VC.bfloat16().float(), *rest)
    assert [each.dtype for each in ours] == [torch.float32] * 2 + [torch.bfloat16, torch.float32]
    for mine, other in zip(ours, exact, strict=True):
        error = (mine.float() - other).norm() / other.norm()
        assert error < 2**-8, error


def test_improbable_targets_have_a_finite_loss():
    inputs = example(scale=100.0)
    _, nll_M, *_ = gradients(masked_cross_entropy, *inputs)
    assert nll_M.max() > 1000
    torch.testing.assert_close(nll_M, plain(*inputs)[1], rtol=1e-5, atol=1e-3)


def test_no_hidden_token_is_a_loss_of_zero_with_gradients_of_zero():
    _, head_VC, targets_M, weights_M = example()
    hidden_MC = torch.zeros(0, C, requires_grad=True)
    total, nll_M, grad_MC, grad_VC = gradients(
        masked_cross_entropy, hidden_MC, head_VC, targets_M[:0], weights_M[:0]
    )
    assert total == 0
    assert nll_M.shape == (0,)
    assert grad_MC.shape == (0, C)
    assert not grad_VC.any()


def test_a_tied_head_gets_both_gradients():
    table_VC, targets_M, weights_M = example()[1:]
    ids_M = targets_M.flip(0)

    def gradient(function):
        total, _ = function(F.embedding(ids_M, table_VC), table_VC, targets_M, weights_M)
        return torch.autograd.grad(total, table_VC)[0]

    by_ours, by_plain = gradient(masked_cross_entropy), gradient(plain)
    torch.testing.assert_close(by_ours, by_plain, rtol=2e-5, atol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_a_frozen_model_none():
    hidden_MC, head_VC, *rest = example()
    masked_cross_entropy(hidden_MC, head_VC.detach(), *rest)[0].backward()
    assert hidden_MC.grad is not None
    with torch.no_grad():
        total, _ = masked_cross_entropy(hidden_MC, head_VC, *rest)
    assert not total.requires_grad


ADDED_PEAK = """
import resource, torch
from illada_core.diffusion.loss import masked_cross_entropy
hidden_MC = torch.ones(8192, 32, dtype=torch.bfloat16, requires_grad=True)
head_VC = torch.ones(32768, 32, requires_grad=True)
targets_M, weights_M = torch.ones(8192, dtype=torch.long), torch.ones(8192)
hidden_MC.detach() @ hidden_MC.detach()[:32].t()  # loads the matrix kernels
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
masked_cross_entropy(hidden_MC, head_VC, targets_M, weights_M)[0].backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_the_logits_of_all_hidden_tokens_never_exist():
    environment = command_environment(OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", ADDED_PEAK],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    all_logits_bytes = 8192 * 32768 * 2
    assert 1024 * int(done.stdout) < all_logits_bytes / 3  # a chunk is a tenth
