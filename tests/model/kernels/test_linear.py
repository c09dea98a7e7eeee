import pytest
import torch
import torch.nn.functional as F

from illada_core.model.kernels.linear import linear, product


@pytest.mark.parametrize("rows", [0, 1, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_their_gradients_are_those_of_torch(rows, dtype):
    generator = torch.Generator().manual_seed(0)
    x_TC = torch.randn(rows, 24, generator=generator).to(dtype).requires_grad_()
    weight_NC = torch.randn(40, 24, generator=generator).requires_grad_()
    results = []
    for multiply in (linear, F.linear):
        out_TN = multiply(x_TC, weight_NC if multiply is linear else weight_NC.to(dtype))
        gradients = torch.autograd.grad(out_TN.sum(), (x_TC, weight_NC))  # a gradient of stride 0
        results.append((out_TN, *gradients))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_products_take_transposed_views():
    left, right = torch.randn(8, 12).t(), torch.randn(8, 20).t()
    torch.testing.assert_close(product(left, right), left @ right.t())
    memory = torch.empty(12, 20, dtype=torch.bfloat16)
    kept = product(left.bfloat16(), right.bfloat16(), memory)
    assert kept.data_ptr() == memory.data_ptr()
