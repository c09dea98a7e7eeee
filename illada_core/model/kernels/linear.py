"""Matrix products by whichever library of torch's is the fastest, with gradients.

On CPUs torch gives float32 to MKL, which leaves the 512-bit units of AMD's idle: oneDNN has twice
its speed there (benchmarks/results/linear.md), at the same precision.

Shapes: T rows, C channels in, N channels out.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SUM_BLOCK = 4096  # rows of a sum that fit a CPU's cache


def linear(x_TC: Tensor, weight_NC: Tensor) -> Tensor:
    """Return x_TC weight_NC^T in the dtype of x, to which the weight is cast."""
    weight_NC = weight_NC.to(x_TC.dtype)
    if prefers_onednn(x_TC):
        out_TN: Tensor = OneDNNLinear.apply(x_TC, weight_NC)
        return out_TN
    return F.linear(x_TC, weight_NC)


def product(left_TC: Tensor, right_NC: Tensor, memory_TN: Tensor | None = None) -> Tensor:
    """Return left_TC right_NC^T, without a gradient; either may be a transposed view.

    `memory_TN` spares an allocation where the library can write there.
    """
    if prefers_onednn(left_TC):
        return onednn_product(left_TC, right_NC)
    return torch.mm(left_TC, right_NC.t(), out=memory_TN)


def add_product(sum_TN: Tensor, left_TC: Tensor, right_NC: Tensor) -> None:
    """Add left_TC right_NC^T to a float32 sum in place; either may be a transposed view.

    A GPU adds up in float32 what it multiplies in half precision. Elsewhere blocks that fit the
    cache are rounded to the dtype of the factors before they are added.
    """
    if left_TC.is_cuda:
        if left_TC.dtype == torch.float32:
            torch.addmm(sum_TN, left_TC, right_NC.t(), out=sum_TN)
        else:
            torch.addmm(sum_TN, left_TC, right_NC.t(), out_dtype=torch.float32, out=sum_TN)
        return
    for first in range(0, len(sum_TN), SUM_BLOCK):
        block = slice(first, first + SUM_BLOCK)
        sum_TN[block] += product(left_TC[block], right_NC)


class OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TC: Tensor, weight_NC: Tensor) -> Tensor:
        ctx.save_for_backward(x_TC, weight_NC)
        return onednn_product(x_TC, weight_NC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TN: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_TC, weight_NC = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        grad_TN = grad_TN.contiguous()
        return (
            onednn_product(grad_TN, weight_NC.t()) if wants_x else None,
            onednn_product(grad_TN.t(), x_TC.t()) if wants_weight else None,
        )


def onednn_product(left_TC: Tensor, right_NC: Tensor) -> Tensor:
    out_TN: Tensor = torch.ops.mkldnn._linear_pointwise(left_TC, right_NC, None, "none", [], "")
    return out_TN


def prefers_onednn(x: Tensor) -> bool:
    """Say whether a product of `x` is better left to oneDNN, which knows no empty ones.

    A compiler makes its own choice.
    """
    if torch.compiler.is_compiling() or not x.is_cpu:
        return False
    return x.dtype == torch.float32 and x.numel() > 0 and has_onednn()


@lru_cache(maxsize=1)
def has_onednn() -> bool:
    """Say whether this build of torch has oneDNN's product with a plain weight."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
