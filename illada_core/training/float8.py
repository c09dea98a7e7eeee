"""Products of the layers in float8, through torchao: faster on GPUs that have units for it.

Each row of either factor has a scale of its own. Weights stay as they are kept, and are rounded
when they are used; so are checkpoints. Embedding, head and the narrow projections to keys and
values are left alone. torchao is an extra, and is met only here.

Shapes: T rows, C channels.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from illada_core.errors import UsageError
from illada_core.model.transformer import Transformer

CAPABILITY = (8, 9)  # Ada, Hopper and later multiply in float8
SIZE_STEP = 16  # what the kernels take
NARROW = ("key", "value")


def multiply_in_float8(model: Transformer, device: torch.device) -> None:
    """Swap the projections of the layers for torchao's, with the same weights by the same names.

    A CPU does the arithmetic in a wider type, slowly. Raises UsageError for a GPU without float8.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    from torchao.float8.float8_linear import Float8Linear

    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY:
        raise UsageError(
            f"recipe: run.float8 needs a GPU of the Ada or Hopper generation or later, not "
            f"{torch.cuda.get_device_name(device)}",
            "--set run.float8=false",
        )
    recipe = Float8LinearConfig.from_recipe_name("rowwise")
    # Rows are of any number, and the kernels take them by sixteens where they are summed over.
    config = replace(recipe, emulate=device.type == "cpu", pad_inner_dim=True)
    convert_to_float8_training(model.layers, config=config, module_filter_fn=is_worth_it)
    for module in model.layers.modules():
        if isinstance(module, Float8Linear):
            module.forward = partial(unless_empty, module.forward, module)


def unless_empty(product: Callable[[Tensor], Tensor], module: nn.Linear, x_TC: Tensor) -> Tensor:
    """Multiply as `product` does, which finds no scale where there are no rows, as in a phantom."""
    if len(x_TC):
        return product(x_TC)
    bias = None if module.bias is None else module.bias.to(x_TC.dtype)
    return F.linear(x_TC, module.weight.to(x_TC.dtype), bias)


def is_worth_it(module: nn.Module, name: str) -> bool:
    """Say whether a projection of a layer, by its name, is multiplied in float8."""
    assert isinstance(module, nn.Linear)
    fits = module.in_features % SIZE_STEP == 0 == module.out_features % SIZE_STEP
    return fits and name.rpartition(".")[2] not in NARROW
