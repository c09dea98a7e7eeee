"""Low-rank adapters, through peft: the base stays as it is, two thin matrices a projection learn.

The base is kept in the dtype the run computes in; adapters, their gradients and moments are
float32. A checkpoint holds the adapters alone, the exported model has them merged. peft is an
extra, and is met only where adapters are made or merged.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from illada_core.errors import CheckpointError
from illada_core.files import sha256_of
from illada_core.model.initial import named_generator
from illada_core.model.transformer import Transformer
from illada_core.training.recipe.adapters import target_pattern
from illada_core.training.recipe.keys import LoraKeys

NAME = "default"  # peft can hold several adapters, each under a name


def add_adapters(model: Transformer, keys: LoraKeys, seed: int) -> None:
    """Freeze a model and give its projections adapters that change nothing yet.

    The first factor is drawn as peft does, but from the seed and its name; the second is 0.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=keys.rank,
        lora_alpha=keys.alpha or 2 * keys.rank,
        target_modules=target_pattern(keys),
        lora_dropout=0.0,
        init_lora_weights=False,
    )
    model.requires_grad_(False)
    inject_adapter_in_model(config, model)
    for name, adapter in adapter_tensors(model).items():
        device = adapter.device
        fresh = torch.zeros(adapter.shape)
        if ".lora_A." in name:
            limit = adapter.shape[1] ** -0.5
            fresh.uniform_(-limit, limit, generator=named_generator(seed, name))
        adapter.data = fresh.to(device)
        adapter.requires_grad_(True)


def adapter_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return the adapters by the names they are saved under; empty for a model without them."""
    return {
        name.replace(f".{NAME}.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def restore_adapters(model: Transformer, saved: dict[str, Tensor]) -> None:
    """Put saved adapters into a model that has adapters.

    Raises CheckpointError unless every adapter finds its values, in its shape, and none is left.
    """
    adapters = adapter_tensors(model)
    wanted = {name: tensor.shape for name, tensor in adapters.items()}
    found = {name: tensor.shape for name, tensor in saved.items()}
    if wanted != found:
        odd = sorted(name for name, _ in wanted.items() ^ found.items())
        raise CheckpointError(f"the adapters do not fit the model: {', '.join(odd[:3])}")
    for name, adapter in adapters.items():
        adapter.data.copy_(saved[name])


def merged_weights(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under the transformer's own names, adapters added to what they adapt.

    Merged matrices are made one by one, on the host, where there is room for them.
    """
    from peft.tuners.lora import LoraLayer

    for name, tensor in model.state_dict().items():
        if ".lora_" not in name and ".base_layer." not in name:
            yield name, tensor
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            base = module.base_layer.weight.detach()
            merged = base.float() + module.get_delta_weight(NAME).detach().float()
            yield f"{name}.weight", merged.to(base.dtype).cpu()


def base_fingerprint(folder: Path) -> str:
    """Return the sha256 over the names and hashes of a base's weights and its config.json."""
    files = [folder / "config.json", *sorted(folder.glob("model*.safetensors"))]
    named = [f"{path.name} {sha256_of(path)}" for path in files]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()
