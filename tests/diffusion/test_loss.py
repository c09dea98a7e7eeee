"""The chunked loss against the plain one: values, gradients, precision and memory."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from illada_core.diffusion import loss
from illada_core.diffusion.loss import masked_cross_entropy, token_cross_entropy
from illada_core.model.kernels import linear
from tests.conftest import command_environment

M, V, C = 37, 61, 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Let the tiny shapes of these tests meet every loop, none of them evenly."""
    monkeypatch.setattr(loss, "CHUNK_ROWS", 10)
    monkeypatch.setattr(loss, "CPU_TILE_LOGITS", 3 * V)
    monkeypatch.setattr(linear, "SUM_BLOCK", 25)


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


def ratio_objective(nll_M):
    """Return something that is no weighted sum of the losses, as policy gradients have it."""
    return (0.3 * nll_M.mean() - 1).exp() + nll_M.tanh().square().sum()


def by_token(function, hidden_MC, head_VC, targets_M):
    nll_M = function(hidden_MC, head_VC, targets_M)
    total = ratio_objective(nll_M)
    return total, nll_M, *torch.autograd.grad(total, (hidden_MC, head_VC))


def plain_tokens(hidden_MC, head_VC, targets_M):
    """The reference, in float64."""
    logits_MV = hidden_MC.double() @ head_VC.double().t()
    return F.cross_entropy(logits_MV, targets_M, reduction="none")


def test_the_loss_of_each_token_is_differentiable_and_equals_the_plain_one():
    inputs = example()[:3]
    ours, theirs = by_token(token_cross_entropy, *inputs), by_token(plain_tokens, *inputs)
    assert ours[1].requires_grad
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other.double(), rtol=2e-5, atol=1e-6)


def test_the_loss_of_each_token_in_bfloat16_has_gradients_as_exact_as_the_sum():
    hidden_MC, head_VC, targets_M, _ = example(torch.bfloat16)
    ours = by_token(token_cross_entropy, hidden_MC, head_VC, targets_M)
    exact = by_token(plain_tokens, hidden_MC, head_VC.bfloat16().float(), targets_M)
    assert [each.dtype for each in ours] == [torch.float32] * 2 + [torch.bfloat16, torch.float32]
    for mine, other in zip(ours, exact, strict=True):
        error = (mine.double() - other.double()).norm() / other.double().norm()
        assert error < 2**-8, error


def test_the_weighted_sum_by_token_is_the_fused_one():
    inputs = example()

    def summed(hidden_MC, head_VC, targets_M, weights_M):
        nll_M = token_cross_entropy(hidden_MC, head_VC, targets_M)
        return (nll_M * weights_M).sum(), nll_M

    for mine, other in zip(
        gradients(summed, *inputs), gradients(masked_cross_entropy, *inputs), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=2e-5, atol=1e-6)
    assert torch.equal(summed(*inputs)[1], masked_cross_entropy(*inputs)[1])


def test_a_frozen_head_gets_no_gradient_by_token_and_no_token_is_no_loss():
    hidden_MC, head_VC, targets_M, _ = example()
    token_cross_entropy(hidden_MC, head_VC.detach(), targets_M).sum().backward()
    assert hidden_MC.grad is not None
    none_MC = torch.zeros(0, C, requires_grad=True)
    total, nll_M, grad_MC, grad_VC = by_token(
        lambda *inputs: torch.cat([token_cross_entropy(*inputs), torch.zeros(1)]),
        none_MC,
        head_VC,
        targets_M[:0],
    )
    assert nll_M.tolist() == [0.0]
    assert total.isfinite()
    assert grad_MC.shape == (0, C)
    assert not grad_VC.any()


ADDED_PEAK = """
import resource, torch
from illada_core.diffusion.loss import masked_cross_entropy, token_cross_entropy
hidden_MC = torch.ones(8192, 32, dtype=torch.bfloat16, requires_grad=True)
head_VC = torch.ones(32768, 32, requires_grad=True)
targets_M, weights_M = torch.ones(8192, dtype=torch.long), torch.ones(8192)
hidden_MC.detach() @ hidden_MC.detach()[:32].t()  # loads the matrix kernels
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if {by_token}:
    token_cross_entropy(hidden_MC, head_VC, targets_M).sum().backward()
else:
    masked_cross_entropy(hidden_MC, head_VC, targets_M, weights_M)[0].backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize("by_token", [False, True])
def test_the_logits_of_all_hidden_tokens_never_exist(by_token):
    environment = command_environment(OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", ADDED_PEAK.format(by_token=by_token)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    all_logits_bytes = 8192 * 32768 * 2
    assert 1024 * int(done.stdout) < all_logits_bytes / 3  # a chunk is a tenth
