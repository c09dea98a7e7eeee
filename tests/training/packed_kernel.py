"""A packed kernel of attention as compilers meet one on a GPU: an operator they cannot see into.

It takes the segments' offsets as a tensor and a bound of the longest, as torch's own does.
"""

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor

from illada_core.model.kernels.matmul_attention import MatmulAttention, matmul_over_spans


@torch.library.custom_op("illada_tests::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int) -> Tensor:
    assert offsets.diff().max() <= longest
    nothing = SimpleNamespace(save_for_backward=lambda *_: None)
    return MatmulAttention.forward(nothing, q, k, v, tuple(offsets.tolist()[1:]))


@torch.library.custom_op("illada_tests::attend_backward", mutates_args=())
def attend_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    kept = SimpleNamespace(saved_tensors=(q, k, v), ends=tuple(offsets.tolist()[1:]))
    return MatmulAttention.backward.__wrapped__(kept, gradient)[:3]


@attend.register_fake
def shape_of(q, k, v, offsets, longest):
    return torch.empty_like(q)


@attend_backward.register_fake
def shapes_of(gradient, q, k, v, offsets):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])


def differentiate(ctx, gradient):
    return (*attend_backward(gradient.contiguous(), *ctx.saved_tensors), None, None)


attend.register_autograd(differentiate, setup_context=keep)


def flash_attention(q, k, v, offsets, longest, backend, is_causal=False):
    """Stand in for the function of this name."""
    assert not is_causal
    return attend(q, k, v, offsets, longest)


def packed_kernel(q, k, v, bounds, backend, is_causal=False):
    """Stand in for the function of this name, where queries are fewer than keys."""
    assert not is_causal
    q_spans, k_spans = (tuple(pairwise(offsets.tolist())) for offsets in bounds[:2])
    return matmul_over_spans(q, k, v, q_spans, k_spans)
