"""How the layers of a finished model are run in training: compiled, or with less memory.

Both are put on from outside and change no parameter and no name.
"""

from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from illada_core.model.attention import packed_attention
from illada_core.model.transformer import Layer, Transformer


def compile_layers(model: Transformer, backend: str = "inductor") -> None:
    """Compile the layers around their attention, which else is compiled anew for each packing."""
    attend = torch.compiler.disable(packed_attention)
    for layer in model.layers:
        assert isinstance(layer, Layer)
        layer.attention.attend = attend
        compiled = torch.compile(layer.forward, dynamic=True, backend=backend)
        layer.forward = compiled  # type: ignore[method-assign]


def recompute_layers(model: Transformer) -> None:
    """Keep only what goes into each layer; the backward pass computes the rest of it again.

    The losses stay the same bit for bit. Comes after `compile_layers`: it cannot be compiled.
    """
    for layer in model.layers:
        # No layer draws random numbers, so no generator's state has to be kept.
        again = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
        layer.forward = again
