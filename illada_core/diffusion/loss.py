"""Cross-entropy of hidden tokens, in chunks: the only place in training that sees logits.

Only the rows of the head that somebody reads are computed (law 6), a chunk of rows at a time, so
[T, V] logits never exist. The weighted sum takes each chunk's gradients at once, while its logits
are there: three products a row. The loss of each token, for those who want to differentiate
something else than that sum, computes its logits again in the backward pass: four.

M masked positions, V vocabulary, C channels, R rows of a chunk.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from illada_core.model.kernels.linear import add_product, product

# A chunk is tall enough to pay for its pass over the head's gradient, which on a GPU takes more; on
# a CPU a softmax tile fits the cache. Figures: benchmarks/results/loss.md.
CHUNK_ROWS, TALL_CHUNK_ROWS = 768, 4096
CPU_TILE_LOGITS, TILE_LOGITS = 1 << 20, 1 << 25


def masked_cross_entropy(
    hidden_MC: Tensor, head_weight_VC: Tensor, targets_M: Tensor, weights_M: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sum of weight · nll over hidden positions, and nll_M detached, both float32.

    Products are taken in the dtype of `hidden_MC`; softmax, sums and the head's gradient in
    float32. The mask token keeps its logit, as in LLaDA's published loss. M may be 0. Gradients
    reach `hidden_MC` and `head_weight_VC`, and the backward pass runs once.
    """
    if not torch.is_grad_enabled():
        hidden_MC, head_weight_VC = hidden_MC.detach(), head_weight_VC.detach()
    return MaskedCrossEntropy.apply(hidden_MC, head_weight_VC, targets_M, weights_M)


def token_cross_entropy(hidden_MC: Tensor, head_weight_VC: Tensor, targets_M: Tensor) -> Tensor:
    """Return nll_M of the hidden positions, float32 and differentiable, with the same arithmetic.

    For objectives that are no weighted sum: ratios of likelihoods, policy gradients.
    """
    return TokenCrossEntropy.apply(hidden_MC, head_weight_VC, targets_M)


class MaskedCrossEntropy(torch.autograd.Function):
    """The weighted sum; its gradients are there before anybody asks for them."""

    @staticmethod
    def forward(
        ctx: Any, hidden_MC: Tensor, head_weight_VC: Tensor, targets_M: Tensor, weights_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        nll_M, *ctx.gradients = chunked_cross_entropy(
            hidden_MC, head_weight_VC, targets_M, weights_M, ctx.needs_input_grad[:2]
        )
        ctx.head_dtype = head_weight_VC.dtype
        ctx.mark_non_differentiable(nll_M)
        return (nll_M * weights_M).sum(), nll_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (grad_hidden_MC, grad_head_VC), ctx.gradients = ctx.gradients, None
        if grad_hidden_MC is not None:
            grad_hidden_MC.mul_(grad_sum)
        if grad_head_VC is not None:
            grad_head_VC = grad_head_VC.mul_(grad_sum).to(ctx.head_dtype)
        return grad_hidden_MC, grad_head_VC, None, None


class TokenCrossEntropy(torch.autograd.Function):
    """The loss of each token; what comes back for it are the weights of the weighted sum."""

    @staticmethod
    def forward(ctx: Any, hidden_MC: Tensor, head_weight_VC: Tensor, targets_M: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_MC, head_weight_VC, targets_M)
        unasked = torch.ones_like(targets_M, dtype=torch.float32)
        return chunked_cross_entropy(hidden_MC, head_weight_VC, targets_M, unasked)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nll_M: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MC, head_weight_VC, targets_M = ctx.saved_tensors
        _, grad_hidden_MC, grad_head_VC = chunked_cross_entropy(
            hidden_MC, head_weight_VC, targets_M, grad_nll_M, ctx.needs_input_grad[:2]
        )
        if grad_head_VC is not None:
            grad_head_VC = grad_head_VC.to(head_weight_VC.dtype)
        return grad_hidden_MC, grad_head_VC, None


def chunked_cross_entropy(
    hidden_MC: Tensor,
    head_weight_VC: Tensor,
    targets_M: Tensor,
    weights_M: Tensor,
    wanted: tuple[bool, bool] = (False, False),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return nll_M, and the wanted gradients of sum(weight · nll): of hidden_MC and of the head.

    The head's gradient is float32.
    """
    head_VC = head_weight_VC.to(hidden_MC.dtype)
    grad_hidden_MC = torch.empty_like(hidden_MC) if wanted[0] else None
    grad_head_VC = torch.zeros_like(head_VC, dtype=torch.float32) if wanted[1] else None
    nll_M = torch.empty_like(weights_M, dtype=torch.float32)

    height = CHUNK_ROWS if hidden_MC.is_cpu or grad_head_VC is None else TALL_CHUNK_ROWS
    buffer_RV = hidden_MC.new_empty(min(height, len(hidden_MC)), len(head_VC))
    for start in range(0, len(hidden_MC), height):
        chunk = slice(start, start + height)
        hidden_RC, weights_R1 = hidden_MC[chunk], weights_M[chunk, None]
        logits_RV = product(hidden_RC, head_VC, buffer_RV[: len(hidden_RC)])
        nll_M[chunk] = turn_into_gradient(logits_RV, targets_M[chunk, None])
        if grad_hidden_MC is not None:
            grad_hidden_MC[chunk] = product(logits_RV, head_VC.t()) * weights_R1
        if grad_head_VC is not None:
            weighted_RC = (hidden_RC * weights_R1).to(hidden_RC.dtype)
            add_product(grad_head_VC, logits_RV.t(), weighted_RC.t())
    return nll_M, grad_hidden_MC, grad_head_VC


def turn_into_gradient(logits_RV: Tensor, targets_R1: Tensor) -> Tensor:
    """Turn logits in place into their gradient, softmax minus one-hot; return nll_R (float32)."""
    tile_logits = CPU_TILE_LOGITS if logits_RV.is_cpu else TILE_LOGITS
    tile = max(1, tile_logits // logits_RV.shape[1])
    nll_R = torch.empty(len(logits_RV), dtype=torch.float32, device=logits_RV.device)
    for first in range(0, len(logits_RV), tile):
        rows = slice(first, first + tile)
        exact_RV = logits_RV[rows].float()
        largest_R1 = exact_RV.amax(1, keepdim=True)
        target_R1 = exact_RV.gather(1, targets_R1[rows])
        share_RV = exact_RV.softmax(1)
        # The largest share is at least 1/V, so the normalizer comes back from it exactly.
        log_sum_R1 = largest_R1 - share_RV.amax(1, keepdim=True).log()
        nll_R[rows] = (log_sum_R1 - target_R1)[:, 0]
        # In float32: beside a share near 1, the difference would be lost in bfloat16.
        share_RV.scatter_add_(1, targets_R1[rows], torch.full_like(target_R1, -1.0))
        logits_RV[rows] = share_RV
    return nll_R
