"""Which matrices get an adapter, and what adapters cost: counted from shapes alone. No torch."""

import re
from dataclasses import replace

from illada_core.model.config import ModelConfig, parameter_shapes
from illada_core.training.recipe.keys import LoraKeys

TARGETS = {"attention": "attention", "ffn": "ffn", "all": "attention|ffn"}


def target_pattern(keys: LoraKeys) -> str:
    """Return a pattern of the names of the projections that get an adapter."""
    return rf"layers\.\d+\.({TARGETS[keys.targets]})\.\w+"


def alpha_of(keys: LoraKeys) -> float:
    """Return what the adapters' product is scaled by, times their rank."""
    return keys.alpha or 2 * keys.rank


def adapter_count(config: ModelConfig, keys: LoraKeys) -> int:
    """Count the parameters of all adapters."""
    return config.layers * sum(keys.rank * sum(shape) for shape in adapted_shapes(config, keys))


def adapter_activation_bytes(config: ModelConfig, keys: LoraKeys) -> int:
    """Return what adapters keep of one token for the backward pass: input and product, float32."""
    shapes = adapted_shapes(config, keys)
    return config.layers * sum(4 * (inputs + keys.rank) for _, inputs in shapes)


def adapted_shapes(config: ModelConfig, keys: LoraKeys) -> list[tuple[int, ...]]:
    """Return the shapes (outputs, inputs) of the matrices of one layer that get an adapter."""
    pattern = re.compile(target_pattern(keys) + r"\.weight")
    shapes = parameter_shapes(replace(config, layers=1)).items()
    return [shape for name, shape in shapes if pattern.fullmatch(name)]
