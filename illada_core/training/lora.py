"""Low-rank adapters, through peft: the base stays as it is, two thin matrices a projection learn.

The base is kept in the dtype the run computes in; adapters, their gradients and moments are
float32. A checkpoint holds the adapters alone; the exported model has them merged, and beside it
they lie as peft reads them. peft is an extra, and is met only where adapters are made, merged or
written.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from illada_core.errors import CheckpointError
from illada_core.files import new_folder, sha256_of
from illada_core.model.initial import named_generator
from illada_core.model.layouts import own_layout, stored_names
from illada_core.model.stored import StoredTensor
from illada_core.model.transformer import Transformer
from illada_core.model.weights import write_tensors
from illada_core.training.recipe.adapters import alpha_of, target_pattern
from illada_core.training.recipe.keys import LoraKeys
from illada_core.training.sharding import local_part, local_rows, whole

NAME = "default"  # peft can hold several adapters, each under a name


def add_adapters(model: Transformer, keys: LoraKeys, seed: int) -> None:
    """Freeze a model and give its projections adapters that change nothing yet.

    The first factor is drawn as peft does, but from the seed and its name; the second is 0.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=keys.rank,
        lora_alpha=alpha_of(keys),
        target_modules=target_pattern(keys),
        lora_dropout=0.0,
        init_lora_weights=False,
    )
    model.requires_grad_(False)
    inject_adapter_in_model(config, model)
    for adapter in adapter_tensors(model).values():
        adapter.data = torch.empty_like(adapter, dtype=torch.float32)
        adapter.requires_grad_(True)
    draw_adapters(model, seed)


@torch.no_grad()
def draw_adapters(model: Transformer, seed: int) -> None:
    """Give adapters the values that they begin with, whole or in shards."""
    for name, adapter in adapter_tensors(model).items():
        fresh = torch.zeros(adapter.shape)
        if ".lora_A." in name:
            limit = adapter.shape[1] ** -0.5
            fresh.uniform_(-limit, limit, generator=named_generator(seed, name))
        local_part(adapter).copy_(fresh[local_rows(adapter)])


def adapter_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return the adapters by the names they are saved under; empty for a model without them."""
    return {
        name.replace(f".{NAME}.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def layout_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return the adapters on the host by the names that peft gives them in the released layout.

    Every rank must ask for them.
    """
    keys = stored_names(model.config, own_layout(model.config))
    found = {}
    for name, adapter in adapter_tensors(model).items():
        projection, _, factor = name.partition(".lora_")
        key = keys[f"{projection}.weight"].removesuffix(".weight")
        tensor = whole(adapter.detach()).cpu().contiguous()
        found[f"base_model.model.{key}.lora_{factor}"] = tensor
    return found


def write_adapters(tensors: Mapping[str, Tensor], folder: Path, keys: LoraKeys, base: str) -> None:
    """Write `layout_tensors` of a base as peft keeps adapters, complete or not at all."""
    from peft import LoraConfig

    projections = {name.partition(".lora_")[0].rpartition(".")[2] for name in tensors}
    config = LoraConfig(
        r=keys.rank,
        lora_alpha=alpha_of(keys),
        target_modules=sorted(projections),
        base_model_name_or_path=base,
        inference_mode=True,
    )
    with new_folder(folder) as aside:
        config.save_pretrained(str(aside))
        write_tensors(tensors, aside / "adapter_model.safetensors")


def base_name(name: str) -> str:
    """Return the transformer's own name of a parameter in a model that has adapters."""
    return name.replace(".base_layer.", ".")


@torch.no_grad()
def restore_adapters(model: Transformer, saved: Mapping[str, StoredTensor]) -> None:
    """Put saved adapters into a model that has adapters.

    Raises CheckpointError unless every adapter finds its values, in its shape, and none is left.
    """
    adapters = adapter_tensors(model)
    wanted = {name: tuple(tensor.shape) for name, tensor in adapters.items()}
    found = {name: tensor.shape for name, tensor in saved.items()}
    if wanted != found:
        odd = sorted(name for name, _ in wanted.items() ^ found.items())
        raise CheckpointError(f"the adapters do not fit the model: {', '.join(odd[:3])}")
    for name, adapter in adapters.items():
        local_part(adapter).copy_(saved[name].rows(local_rows(adapter)))


def merged_weight(model: Transformer, name: str) -> Tensor:
    """Return a whole weight by the transformer's own name, its adapter added if it has one.

    Every rank must ask for it.
    """
    if not adapter_tensors(model):
        return whole(model.get_parameter(name).detach())
    from peft.tuners.lora import LoraLayer

    module = model.get_submodule(name.removesuffix(".weight"))
    if not isinstance(module, LoraLayer):
        return whole(model.get_parameter(name).detach())
    base = whole(module.base_layer.weight.detach())
    down, up = (whole(each[NAME].weight.detach()) for each in (module.lora_A, module.lora_B))
    return (base.float() + up @ down * module.scaling[NAME]).to(base.dtype)


def base_fingerprint(folder: Path) -> str:
    """Return the sha256 over the names and hashes of a base's weights and its config.json."""
    files = [folder / "config.json", *sorted(folder.glob("model*.safetensors"))]
    named = [f"{path.name} {sha256_of(path)}" for path in files]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()
