"""Fresh weights, drawn as the released configurations describe.

Every parameter is drawn on the CPU from a generator of its own, keyed by the seed and its name, so
ranks and devices agree. iLLaDA: normal with one standard deviation, smaller where a branch returns
to the residual stream. LLaDA: Mitchell's truncated normal, narrower the deeper the layer.
"""

from math import sqrt
from zlib import crc32

import torch
from torch import Tensor, nn

from illada_core.model.config import ModelConfig, parameter_shapes
from illada_core.model.transformer import Transformer
from illada_core.noise import STREAM_INITIAL_WEIGHTS, random_words

BRANCH_ENDS = ("attention.output.weight", "ffn.down.weight")
TRUNCATION_STDS = 3.0


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
    generator = named_generator(seed, name)
    std = initial_std(config, name, fan_in=shape[1])
    if config.family == "llada":
        limit = TRUNCATION_STDS * std
        return nn.init.trunc_normal_(weight, 0.0, std, -limit, limit, generator=generator)
    weight.normal_(0.0, std, generator=generator)
    if name == "embedding.weight" and config.pad_id is not None:
        weight[config.pad_id] = 0.0
    return weight


def named_generator(seed: int, name: str) -> torch.Generator:
    """Return the generator that the parameter called `name` is drawn from, on the CPU."""
    key = crc32(name.encode())
    high, low = (random_words(seed, STREAM_INITIAL_WEIGHTS, 0, key, place) for place in (0, 1))
    return torch.Generator().manual_seed(high << 32 | low)


def initial_std(config: ModelConfig, name: str, fan_in: int) -> float:
    """Return the standard deviation a matrix is drawn with."""
    ends_branch = name.endswith(BRANCH_ENDS)
    if config.family == "llada":
        layer = int(name.split(".")[1]) if ends_branch else 0
        return 1 / sqrt(fan_in * (2 * (layer + 1) if ends_branch else 1))
    if name == "embedding.weight":
        return sqrt(1 / (2 * config.width))
    return config.initial_std / (sqrt(2 * config.layers) if ends_branch else 1)
