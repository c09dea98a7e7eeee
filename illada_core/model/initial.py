"""Fresh weights, drawn as the released configurations describe.

Every parameter is drawn on the CPU from a generator of its own, keyed by the seed and its name, so
ranks and devices agree. The family says with which standard deviation, and whether its normal is
truncated.
"""

from zlib import crc32

import torch
from torch import Tensor, nn

from illada_core.model.config import ModelConfig, parameter_shapes
from illada_core.model.families.table import TABLE
from illada_core.model.transformer import Transformer
from illada_core.noise import STREAM_INITIAL_WEIGHTS, random_words


def new_model(
    config: ModelConfig,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    compute_dtype: torch.dtype | None = None,
    backend: str = "sdpa",
) -> Transformer:
    """Return a transformer with fresh weights of `dtype`, computing in it unless told otherwise."""
    with torch.device("meta"):
        model = Transformer(config, compute_dtype or dtype, backend)
    weights = {
        name: initial_weight(config, name, shape, seed).to(device, dtype)
        for name, shape in parameter_shapes(config).items()
    }
    model.load_state_dict(weights, assign=True)
    return model


def initial_weight(config: ModelConfig, name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw the parameter called `name`, in float32 on the CPU."""
    weight = torch.empty(shape, device="cpu")
    if "norm" in name:
        return weight.fill_(1.0)
    if name.endswith(".bias"):
        return weight.zero_()
    family = TABLE[config.family]
    generator = named_generator(seed, name)
    std = family.initial_std(config, name, shape[1])
    if family.truncated_stds is not None:
        limit = family.truncated_stds * std
        return nn.init.trunc_normal_(weight, 0.0, std, -limit, limit, generator=generator)
    weight.normal_(0.0, std, generator=generator)
    if name == "embedding.weight" and family.pad_row_is_zero and config.pad_id is not None:
        weight[config.pad_id] = 0.0
    return weight


def named_generator(seed: int, name: str) -> torch.Generator:
    """Return the generator that the parameter called `name` is drawn from, on the CPU."""
    key = crc32(name.encode())
    high, low = (random_words(seed, STREAM_INITIAL_WEIGHTS, 0, key, place) for place in (0, 1))
    return torch.Generator().manual_seed(high << 32 | low)
