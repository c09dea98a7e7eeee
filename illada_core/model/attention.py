"""Attention over packed segments: each token sees its own segment, and no other.

It sees all of it or, where attention is causal, itself and what stands before. One function,
several kernels, chosen once. No kernel ever sees a mask of T x T: segments are told by their
offsets, or taken one at a time. Where some keys are not to be seen, all segments share one mask.

Shapes: T packed tokens, D segments, S tokens of a segment or of all keys, L of the longest segment,
Q queries, H query heads, G key/value heads, K head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.util import find_spec
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from illada_core.errors import UsageError
from illada_core.model.kernels.flash import newest_flash, unsplit, varlen_parameters
from illada_core.model.kernels.matmul_attention import Span, matmul_attention, matmul_over_spans
from illada_core.model.transfer import sent

PACKED_BACKENDS = ("varlen", "flash")  # one call for all segments, told by their offsets
BACKENDS = (*PACKED_BACKENDS, "sdpa", "matmul")
HALF_DTYPES = (torch.bfloat16, torch.float16)
HEAD_STEP, LARGEST_HEAD = 8, 256  # what torch's kernel takes, and older flash-attn
FLASH_CAPABILITY = (8, 0)  # the flash kernels need Ampere or later
CAUSAL_WINDOW, WHOLE_WINDOW = (-1, 0), (-1, -1)  # keys to the left and right of a query's own


@dataclass(frozen=True, eq=False)
class Segments:
    """Where packed segments end, on the host and on the device; positions restart in each.

    `seen_LL` says which keys a query sees, by the positions of both; None: all that it may.
    """

    ends: tuple[int, ...]
    offsets_D1: Tensor  # int32
    positions_T: Tensor  # int64
    longest: int
    seen_LL: Tensor | None = None  # bool

    @staticmethod
    @lru_cache(maxsize=16)
    def of(ends: tuple[int, ...], device: torch.device) -> "Segments":
        """Describe segments by their cumulative ends; the same ends give the same object."""
        with torch.inference_mode(False):  # the tensors may be met again by a training step
            offsets_D1 = torch.tensor((0, *ends))
            lengths_D = offsets_D1.diff()
            assert lengths_D.min() > 0, "segment ends must rise from above 0"
            positions_T = torch.arange(ends[-1]) - offsets_D1[:-1].repeat_interleave(lengths_D)
            return Segments(
                ends=ends,
                offsets_D1=sent(offsets_D1.to(torch.int32), device),
                positions_T=sent(positions_T, device),
                longest=int(lengths_D.max()),
            )

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Where each segment starts and ends."""
        return tuple(zip((0, *self.ends), self.ends, strict=False))

    @cached_property
    def places(self) -> "Places":
        """The same with every row a query."""
        bounds = (self.offsets_D1, self.longest)
        return Places(*bounds, self.spans, *bounds)


@dataclass(frozen=True, eq=False)
class Places:
    """Where packed queries stand, and the keys that those of each segment meet.

    Queries of segment d are the rows from q_offsets[d] on, maybe none, at most `q_longest`; they
    meet the keys of spans[d]. Laid side by side these would end at k_offsets; `slots` says where
    each of them is, None where they lie side by side.
    """

    q_offsets_D1: Tensor  # int32
    q_longest: int
    spans: tuple[Span, ...]
    k_offsets_D1: Tensor  # int32
    k_longest: int
    slots_S: Tensor | None = None  # int64

    @cached_property
    def q_spans(self) -> tuple[Span, ...]:
        """Where the queries of each segment start and end, on the host."""
        offsets = self.q_offsets_D1.tolist()
        return tuple(pairwise(offsets))

    def to(self, device: torch.device | str) -> "Places":
        """Return them on a device."""
        return replace(
            self,
            q_offsets_D1=sent(self.q_offsets_D1, device),
            k_offsets_D1=sent(self.k_offsets_D1, device),
            slots_S=None if self.slots_S is None else sent(self.slots_S, device),
        )

    def asked(self, rising_M: Tensor) -> "Places":
        """Let only some of the rows be queries, told in rising order."""
        offsets_D1 = torch.searchsorted(rising_M, self.q_offsets_D1.to(rising_M.dtype))
        return replace(self, q_offsets_D1=offsets_D1.to(torch.int32))


def choose_backend(
    device: torch.device | str,
    dtype: torch.dtype,
    wanted: str = "auto",
    head_size: int | None = None,
    is_causal: bool = False,
) -> tuple[str, str]:
    """Return the name of the attention kernel for a device, compute dtype and head size, and why.

    Raises UsageError for an unknown name, or one that cannot run here.
    """
    device = torch.device(device)
    name, reason = best_backend(device, dtype, wanted, head_size, is_causal)
    if name == "varlen":
        reason += f" ({newest_flash(torch.cuda.get_device_capability(device))})"
    return name, reason


def best_backend(
    device: torch.device, dtype: torch.dtype, wanted: str, head_size: int | None, is_causal: bool
) -> tuple[str, str]:
    """Return the wanted kernel if it can run, or the fastest that can, and why."""
    if wanted not in ("auto", *BACKENDS):
        raise UsageError(
            f"unknown attention backend {wanted!r}", hint=f"auto or one of {', '.join(BACKENDS)}"
        )
    faults = {name: fault(name, device, dtype, head_size) for name in BACKENDS}
    if is_causal:
        faults["matmul"] = "attends to whole segments only"
    if wanted != "auto":
        if faults[wanted]:
            raise UsageError(f"attention backend {wanted!r} {faults[wanted]}")
        return wanted, "asked for"
    if not faults["varlen"]:
        return "varlen", "torch's packed flash kernel"
    if not faults["flash"]:
        return "flash", f"flash-attn's packed kernel, as torch's {faults['varlen']}"
    if device.type == "cpu" and dtype == torch.bfloat16 and not is_causal:
        return "matmul", "bfloat16 matrix products outrun the fused kernel on CPUs"
    return "sdpa", f"segments one by one, as the packed kernel {faults['varlen']}"


def fault(name: str, device: torch.device, dtype: torch.dtype, head_size: int | None) -> str | None:
    """Say why a kernel cannot run for this device, dtype and head size, None if it can."""
    if name not in PACKED_BACKENDS:
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, not {device.type}"
    if dtype not in HALF_DTYPES:
        return f"computes in half precision only, not {str(dtype).removeprefix('torch.')}"
    if head_size is not None and (head_size % HEAD_STEP or head_size > LARGEST_HEAD):
        return f"takes heads of 8, 16, … {LARGEST_HEAD} channels, not {head_size}"
    if torch.cuda.get_device_capability(device) < FLASH_CAPABILITY:
        return "needs a GPU of the Ampere generation or later"
    if name == "flash" and find_spec("flash_attn") is None:
        return "needs the package flash-attn (extra: flash)"
    if name == "varlen" and "enable_gqa" not in varlen_parameters():
        return f"does not share heads in torch {torch.__version__}"
    return None


def packed_attention(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGK: Tensor,
    segments: Segments,
    backend: str,
    is_causal: bool = False,
) -> Tensor:
    """Attend within each segment, all positions to all or to those before, and return out_THK.

    Only torch's own kernel takes a mask, so where there is one it is asked, whatever the backend.
    """
    if segments.seen_LL is not None:
        return segment_attention(q_THK, k_TGK, v_TGK, segments, is_causal)
    if backend in PACKED_BACKENDS:
        bounds = (segments.offsets_D1, segments.longest)
        return flash_attention(q_THK, k_TGK, v_TGK, *bounds, backend, is_causal)
    if backend == "matmul":
        assert not is_causal, "another kernel was chosen"
        return matmul_attention(q_THK, k_TGK, v_TGK, segments.ends)
    return segment_attention(q_THK, k_TGK, v_TGK, segments, is_causal)


def query_attention(
    q_QHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    places: Places,
    backend: str,
    is_causal: bool = False,
) -> Tensor:
    """Let queries meet the keys of their segments, and return out_QHK; for no gradients.

    Where attention is causal the queries of a segment are its last rows, in order.
    """
    if backend in PACKED_BACKENDS:
        if places.slots_S is not None:  # neither kernel skips keys in every version served
            k_SGK, v_SGK = (x_SGK.index_select(0, places.slots_S) for x_SGK in (k_SGK, v_SGK))
        bounds = (places.q_offsets_D1, places.k_offsets_D1, places.q_longest, places.k_longest)
        return packed_kernel(q_QHK, k_SGK, v_SGK, bounds, backend, is_causal)
    if backend == "matmul":
        assert not is_causal, "another kernel was chosen"
        return matmul_over_spans(q_QHK, k_SGK, v_SGK, places.q_spans, places.spans)
    return spans_attention(q_QHK, k_SGK, v_SGK, places.q_spans, places.spans, is_causal)


def flash_attention(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGK: Tensor,
    offsets_D1: Tensor,
    longest: int,
    backend: str,
    is_causal: bool = False,
) -> Tensor:
    """Attend within segments through one of the two packed flash kernels.

    No segment may be longer than `longest`, which may be more than the longest is.
    """
    bounds = (offsets_D1, offsets_D1, longest, longest)
    return packed_kernel(q_THK, k_TGK, v_TGK, bounds, backend, is_causal)


def packed_kernel(
    q_QHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    bounds: tuple[Tensor, Tensor, int, int],
    backend: str,
    is_causal: bool,
) -> Tensor:
    """Call a packed flash kernel, which shares heads by itself, with the bounds that it takes.

    They are offsets of queries and of keys, and the most that a segment may have of each.
    """
    if backend == "flash":
        from flash_attn import flash_attn_varlen_func

        return flash_attn_varlen_func(q_QHK, k_SGK, v_SGK, *bounds, causal=is_causal)
    from torch.nn.attention.varlen import varlen_attn

    window = CAUSAL_WINDOW if is_causal else WHOLE_WINDOW
    options = {"window_size": window, "enable_gqa": True, **unsplit()}
    out_QHK = varlen_attn(q_QHK, k_SGK, v_SGK, *bounds, **options)
    assert isinstance(out_QHK, Tensor)
    return out_QHK


def segment_attention(
    q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, segments: Segments, is_causal: bool = False
) -> Tensor:
    """Attend through torch's scaled_dot_product_attention, equal segments in one call."""
    shares = q_THK.shape[1] != k_TGK.shape[1]
    packed = (q_THK, k_TGK, v_TGK)
    if segments.longest * len(segments.ends) == segments.ends[-1]:
        shape = (len(segments.ends), segments.longest)
        q_DHSK, k_DGSK, v_DGSK = (x.unflatten(0, shape).transpose(1, 2) for x in packed)
        out_DHSK = F.scaled_dot_product_attention(
            q_DHSK,
            k_DGSK,
            v_DGSK,
            attn_mask=segments.seen_LL,
            is_causal=is_causal,
            enable_gqa=shares,
        )
        return out_DHSK.transpose(1, 2).flatten(0, 1)
    spans = segments.spans
    return spans_attention(q_THK, k_TGK, v_TGK, spans, spans, is_causal, segments.seen_LL)


def spans_attention(
    q_QHK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    q_spans: Sequence[Span],
    k_spans: Sequence[Span],
    is_causal: bool = False,
    seen_LL: Tensor | None = None,
) -> Tensor:
    """Attend span by span through torch's scaled_dot_product_attention.

    Where attention is causal the queries of a span are its last rows.
    """
    shares = q_QHK.shape[1] != k_SGK.shape[1]
    pieces = [q_QHK[:0]]
    for (start, end), (first, last) in zip(q_spans, k_spans, strict=True):
        if start == end:
            continue
        q_HQK = q_QHK[None, start:end].transpose(1, 2)
        k_GSK, v_GSK = (x[None, first:last].transpose(1, 2) for x in (k_SGK, v_SGK))
        queries, keys = end - start, last - first
        # One query at the end meets all keys; a square needs no mask; others are few rows.
        mask_QS = None if seen_LL is None else seen_LL[:queries, :keys]
        if is_causal and 1 < queries < keys:
            mask_QS = lower_right(queries, keys, q_QHK.device)
        out_HQK = F.scaled_dot_product_attention(
            q_HQK,
            k_GSK,
            v_GSK,
            attn_mask=mask_QS,
            is_causal=is_causal and queries == keys,
            enable_gqa=shares,
        )
        pieces.append(out_HQK[0].transpose(0, 1))
    return torch.cat(pieces)


def lower_right(queries: int, keys: int, device: torch.device) -> Tensor:
    """Return which keys each of the last rows meets: those before it, and its own."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
