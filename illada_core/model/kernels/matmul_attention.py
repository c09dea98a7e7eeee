"""Packed attention by plain matrix products, for CPUs whose bfloat16 products are fast.

torch's fused CPU kernel spends bfloat16 at a quarter of the speed of a matrix product
(benchmarks/results/attention.md). Here the scores of a block of queries are formed, made
probabilities and used while they are in cache, and formed again for the gradient, so memory stays
linear in T. Scores are rounded to the compute dtype, as in the classic unfused formulation;
the softmax itself runs in float32.

Segments of like length are padded to a common one and multiplied together; query heads that share
a key/value head are rows of one product. Padding meets zero queries and zero probabilities, so it
changes nothing.

Shapes: T packed tokens, H query heads, G key/value heads, K head size, S padded tokens of a
segment, B segments x G, Q rows of queries (heads sharing a key x S), P rows of one block.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_SCORES = 2**20  # in flight at a time: 2 MB of bfloat16, about one core's cache
MIN_BLOCK_ROWS = 256  # fewer rows waste the matrix units on reloading keys
LENGTH_STEP = 32  # lengths are padded to multiples, so that few product shapes are compiled

Span = tuple[int, int]


def matmul_attention(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, ends: tuple[int, ...]) -> Tensor:
    """Attend within each segment and return out_THK; differentiable once."""
    return MatmulAttention.apply(q_THK, k_TGK, v_TGK, ends)


def matmul_over_spans(
    q_QHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    q_spans: Sequence[Span],
    k_spans: Sequence[Span],
) -> Tensor:
    """Let the queries of each span meet the keys of its own, and return out_QHK; no gradients."""
    heads, kv_heads = q_QHK.shape[1], k_SGK.shape[1]
    out_QHK = torch.empty_like(q_QHK)
    for q_own, k_own, (q_length, length) in groups(q_spans, k_spans, heads):
        q_BQK = stack(q_QHK, q_own, q_length, kv_heads)
        k_BSK, v_BSK = (stack(x, k_own, length, kv_heads) for x in (k_SGK, v_SGK))
        out_BQK = torch.empty_like(q_BQK)
        for batch, rows, probs_BPS in blocks(q_BQK, length):
            probabilities(q_BQK[batch, rows], k_BSK[batch], k_own, out=probs_BPS)
            out_BQK[batch, rows] = probs_BPS @ v_BSK[batch]
        unstack(out_BQK, q_own, kv_heads, out=out_QHK)
    return out_QHK


class MatmulAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, ends: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(q_THK, k_TGK, v_TGK)
        ctx.ends = ends
        spans = spans_between(ends)
        return matmul_over_spans(q_THK, k_TGK, v_TGK, spans, spans)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_THK: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_THK, k_TGK, v_TGK = ctx.saved_tensors
        heads, kv_heads, scale = q_THK.shape[1], k_TGK.shape[1], q_THK.shape[2] ** -0.5
        dq_THK, dk_TGK, dv_TGK = (torch.empty_like(x) for x in (q_THK, k_TGK, v_TGK))
        all_spans = spans_between(ctx.ends)
        for spans, _, (length, _) in groups(all_spans, all_spans, heads):
            q_BQK, k_BSK, v_BSK, grad_BQK = (
                stack(x, spans, length, kv_heads) for x in (q_THK, k_TGK, v_TGK, grad_THK)
            )
            # Products with the small matrix transposed are faster than with the scores transposed.
            q_BKQ, grad_BKQ = (x.transpose(1, 2).contiguous() for x in (q_BQK, grad_BQK))
            dq_BQK = torch.empty_like(q_BQK)
            dk_BKS, dv_BKS = k_BSK.new_zeros(2, *q_BKQ.shape[:2], length, dtype=torch.float32)
            dscores = q_THK.new_empty(max(BLOCK_SCORES, MIN_BLOCK_ROWS * length))
            for batch, rows, probs_BPS in blocks(q_BQK, length):
                probabilities(q_BQK[batch, rows], k_BSK[batch], spans, out=probs_BPS)
                dv_BKS[batch] += grad_BKQ[batch, :, rows] @ probs_BPS
                dscores_BPS = dscores[: probs_BPS.numel()].view_as(probs_BPS)
                torch.bmm(grad_BQK[batch, rows], v_BSK[batch].transpose(1, 2), out=dscores_BPS)
                torch.ops.aten._softmax_backward_data.out(
                    dscores_BPS, probs_BPS, -1, q_THK.dtype, grad_input=dscores_BPS
                )
                dq_BQK[batch, rows] = dscores_BPS @ k_BSK[batch]
                dk_BKS[batch] += q_BKQ[batch, :, rows] @ dscores_BPS
            unstack(dq_BQK.mul_(scale), spans, kv_heads, out=dq_THK)
            unstack(dk_BKS.mul_(scale).transpose(1, 2), spans, kv_heads, out=dk_TGK)
            unstack(dv_BKS.transpose(1, 2), spans, kv_heads, out=dv_TGK)
        return dq_THK, dk_TGK, dv_TGK, None


def spans_between(ends: tuple[int, ...]) -> list[Span]:
    return list(zip((0, *ends), ends, strict=False))


def groups(
    q_spans: Sequence[Span], k_spans: Sequence[Span], heads: int
) -> Iterator[tuple[list[Span], list[Span], tuple[int, int]]]:
    """Yield spans of queries and keys of like lengths, and their padded lengths.

    They are few enough for one block of scores; spans without a query are left out.
    """
    by_lengths: dict[tuple[int, int], list[tuple[Span, Span]]] = {}
    for pair in zip(q_spans, k_spans, strict=True):
        q_length, k_length = (-(-(end - start) // LENGTH_STEP) * LENGTH_STEP for start, end in pair)
        if q_length:
            by_lengths.setdefault((q_length, k_length), []).append(pair)
    for lengths, pairs in by_lengths.items():
        at_once = max(1, BLOCK_SCORES // (heads * lengths[0] * lengths[1]))
        for first in range(0, len(pairs), at_once):
            q_own, k_own = zip(*pairs[first : first + at_once], strict=True)
            yield list(q_own), list(k_own), lengths


def blocks(q_BQK: Tensor, length: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield slices of the batch and of its rows, and scores_BPS to fill: one memory, reused."""
    batch, total = q_BQK.shape[:2]
    at_once = min(batch, max(1, BLOCK_SCORES // (total * length)))
    step = min(total, max(MIN_BLOCK_ROWS, BLOCK_SCORES // length))
    memory = q_BQK.new_empty(at_once * step * length)
    for first in range(0, batch, at_once):
        heads = slice(first, min(first + at_once, batch))
        for row in range(0, total, step):
            rows = slice(row, min(row + step, total))
            shape = (heads.stop - heads.start, rows.stop - rows.start, length)
            yield heads, rows, memory[: shape[0] * shape[1] * length].view(shape)


def probabilities(q_BPK: Tensor, k_BSK: Tensor, spans: list[Span], out: Tensor) -> None:
    """Fill `out` with softmax(q k / sqrt(K)), padded keys at zero."""
    scale = q_BPK.shape[-1] ** -0.5
    torch.baddbmm(out, q_BPK, k_BSK.transpose(1, 2), beta=0, alpha=scale, out=out)
    by_segment = out.unflatten(0, (len(spans), -1))
    for scores_GPS, (start, end) in zip(by_segment, spans, strict=True):
        if end - start < out.shape[-1]:
            scores_GPS[..., end - start :] = -torch.inf
    torch.softmax(out, -1, out=out)


def stack(x_THK: Tensor, spans: list[Span], length: int, kv_heads: int) -> Tensor:
    """Copy spans of packed rows to [B, heads per key x S, K], zero where padded."""
    shape = (len(spans), kv_heads, x_THK.shape[1] // kv_heads, length, x_THK.shape[2])
    padded = any(end - start < length for start, end in spans)
    stacked = x_THK.new_zeros(shape) if padded else x_THK.new_empty(shape)
    for segment, (start, end) in zip(stacked, spans, strict=True):
        rows = x_THK[start:end].unflatten(1, (kv_heads, -1))
        segment[:, :, : end - start] = rows.permute(1, 2, 0, 3)
    return stacked.flatten(2, 3).flatten(0, 1)


def unstack(x_BQK: Tensor, spans: list[Span], kv_heads: int, out: Tensor) -> None:
    """Copy [B, heads per key x S, K] back to the packed rows of `out`."""
    shared = out.shape[1] // kv_heads
    by_segment = x_BQK.unflatten(1, (shared, -1)).unflatten(0, (len(spans), kv_heads))
    for segment, (start, end) in zip(by_segment, spans, strict=True):
        rows = segment[:, :, : end - start].permute(2, 0, 1, 3)
        out[start:end].unflatten(1, (kv_heads, -1)).copy_(rows)
