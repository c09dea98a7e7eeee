"""How the layers of a finished model are run in training: compiled, or with less memory.

Both are put on from outside and change no parameter and no name.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from illada_core.model.attention import (
    PACKED_BACKENDS,
    Segments,
    flash_attention,
    packed_attention,
)
from illada_core.model.transformer import Attention, Layer, Transformer

# What selective recomputation keeps: products and attention, by all names that they have here.
KEPT = {
    "aten::mm",
    "aten::addmm",
    "aten::_scaled_mm",
    "mkldnn::_linear_pointwise",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "flash_attn::_flash_attn_varlen_forward",
    "torch_attn::_varlen_attn",
}
FEWEST = 2  # sizes 0 and 1 are compiled apart, and phantoms have them


def compile_layers(model: Transformer, backend: str = "inductor") -> None:
    """Compile the layers, once for all packings: one graph, and another where rows are picked.

    A packed kernel of attention is in the graph, segments told by a tensor and the longest of them
    by a bound that is always the same. Other kernels take segments one by one, and stay outside.
    """
    for layer in model.layers:
        assert isinstance(layer, Layer)
        is_packed = layer.attention.backend in PACKED_BACKENDS
        if is_packed:
            layer.attention.attend = partial(bounded_attention, longest=model.config.max_length)
        else:
            layer.attention.attend = torch.compiler.disable(packed_attention)
        compiled = torch.compile(layer.forward, dynamic=True, backend=backend, fullgraph=is_packed)
        layer.forward = partial(compiled_or_not, layer.forward, compiled)  # type: ignore


def bounded_attention(
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGK: Tensor,
    segments: Segments,
    backend: str,
    is_causal: bool,
    *,
    longest: int,
) -> Tensor:
    """Attend as `packed_attention` does, told no more of the longest segment than a bound."""
    return flash_attention(q_THK, k_TGK, v_TGK, segments.offsets_D1, longest, backend, is_causal)


def compiled_or_not(
    plain: Callable[..., Tensor],
    compiled: Callable[..., Tensor],
    x_TC: Tensor,
    rotation: tuple[Tensor, Tensor],
    segments: Segments,
    rows_M: Tensor | None = None,
) -> Tensor:
    """Run a layer as it was compiled, or plainly where that would be compiled for anew."""
    few = min(len(x_TC), FEWEST if rows_M is None else len(rows_M)) < FEWEST
    run = plain if few or not torch.is_grad_enabled() else compiled
    return run(x_TC, rotation, segments, rows_M)


def recompute_layers(model: Transformer, selective: bool = False) -> None:
    """Keep only what goes into each layer; the backward pass computes the rest of it again.

    With `selective` products and attention are kept too, which are the most of a layer's arithmetic
    and about half of its memory. The losses stay the same bit for bit either way. Layers whose
    attention is in the graph are compiled after this, others before: a graph that is broken cannot
    be recomputed as one.
    """
    # No layer draws random numbers, so no generator's state has to be kept.
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    if selective:
        again = partial(again, context_fn=keeping_products)
    for layer in model.layers:
        layer.forward = partial(again, layer.forward)


def keeping_products() -> tuple[Any, Any]:
    """Return the contexts of a forward pass that keeps products, and of its repetition."""
    return create_selective_checkpoint_contexts(policy_of)


def policy_of(context: Any, operator: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    """Say of an operator whether its result is kept."""
    is_kept = operator.name() in KEPT
    return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE


def wrap_layers(model: Transformer, compiles: bool, recompute: str) -> None:
    """Compile and recompute the layers as a recipe asks, in the order that attention needs."""
    is_packed = any(each.backend in PACKED_BACKENDS for each in attentions(model))
    if compiles and not is_packed:
        compile_layers(model)
    if recompute != "none":
        recompute_layers(model, selective=recompute == "selective")
    if compiles and is_packed:
        compile_layers(model)


def attentions(model: Transformer) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]
