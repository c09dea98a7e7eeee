"""Low-rank adapters in a folder as peft keeps them: read, checked, and added to weights.

A weight W gets scale · B A, with scale alpha / r. What else peft can do is refused by the name of
its field. Shapes: N channels out, C channels in, R the rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from illada_core.decoding import Count, shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding, read_json
from illada_core.model.config import ModelConfig
from illada_core.model.layouts import own_layout, stored_names
from illada_core.model.stored import StoredTensor, find_tensors

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTORS = ("lora_A.weight", "lora_B.weight")
# Fields that would make another sum of the same tensors, unless they are false or empty.
NOT_COMPUTED = (
    "use_dora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "lora_bias",
    "layer_replication",
)


@dataclass(frozen=True)
class Adapters:
    """The factors of each adapted weight, by our name of it, and the scale of their product."""

    factors: Mapping[str, tuple[StoredTensor, StoredTensor]]
    scale: float

    def added(self, name: str, weight_NC: Tensor) -> Tensor:
        """Return a weight with its adapter added in float32, or as it is if it has none."""
        if name not in self.factors:
            return weight_NC
        down_RC, up_NR = (each.rows(slice(None)).float() for each in self.factors[name])
        return (weight_NC.float() + up_NR @ down_RC * self.scale).to(weight_NC.dtype)


def read_adapters(folder: Path, config: ModelConfig) -> Adapters:
    """Read the adapters of a model from a folder.

    Raises CheckpointError for files that are missing, damaged or of another model, UsageError for
    what is not computed here.
    """
    path = folder / CONFIG_FILE
    facts = read_json(path, CheckpointError)
    if not facts:
        raise CheckpointError(f"{folder} holds no adapters: {CONFIG_FILE} is missing or empty")
    scale = scale_of(facts, path)
    tensors, broken = find_tensors([folder / WEIGHTS_FILE])
    if broken:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} is damaged: {broken[0]}")
    layouts = {config.family: None, own_layout(config): None}
    ours = {
        f"{PREFIX}{key.removesuffix('.weight')}": name
        for layout in layouts
        for name, key in stored_names(config, layout).items()
    }
    factors = {}
    for place in sorted({name.rpartition(".lora_")[0] for name in tensors}):
        down, up = (tensors.pop(f"{place}.{factor}", None) for factor in FACTORS)
        if down is None or up is None or place not in ours:
            raise CheckpointError(f"{folder / WEIGHTS_FILE} fits no weight of the model: {place}")
        factors[ours[place]] = down, up
    if tensors:
        raise CheckpointError(f"{folder / WEIGHTS_FILE} holds more than adapters: {min(tensors)}")
    return Adapters(factors, scale)


def scale_of(facts: Mapping[str, Any], path: Path) -> float:
    """Return what the product of the factors is scaled by. Raises CheckpointError, UsageError."""
    with decoding(path, CheckpointError):
        kind = shaped(facts.get("peft_type"), str, "peft_type")
        rank = shaped(facts.get("r"), Count, "r")
        alpha = float(shaped(facts.get("lora_alpha"), int | float, "lora_alpha"))
        is_rooted = shaped(facts.get("use_rslora", False), bool, "use_rslora")
        if not rank:
            raise ValueError("r is 0")
    odd = [name for name in NOT_COMPUTED if facts.get(name)]
    if kind != "LORA":
        odd = [f"peft_type {kind}"]
    if facts.get("bias", "none") != "none":
        odd.append("bias")
    if odd:
        raise UsageError(f"{path} asks for what is not computed here: {', '.join(odd)}")
    return alpha / rank**0.5 if is_rooted else alpha / rank


def check_shapes(adapters: Adapters, stored: Mapping[str, StoredTensor], folder: Path) -> None:
    """Raise CheckpointError for factors whose product is no sum with the weight they belong to."""
    for name, (down, up) in adapters.factors.items():
        product = (*up.shape[:1], *down.shape[1:])
        if product != tuple(stored[name].shape) or up.shape[1:] != down.shape[:1]:
            raise CheckpointError(f"the adapter of {name} in {folder} has another shape")
