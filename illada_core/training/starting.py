"""The model that a run starts with: fresh, of its recipe's ckpt, or of its newest checkpoint.

What is done to a model comes in this order: adapters or float8, compiled and recomputed layers,
shards; only then it gets memory, and each rank reads the rows that it holds. None ever holds a
model whole that is in shards.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.config import ModelConfig, parameter_shapes
from illada_core.model.configfile import read_config
from illada_core.model.families.family import Reading
from illada_core.model.finding import MODEL, find_model
from illada_core.model.initial import initial_weight
from illada_core.model.stored import DTYPES
from illada_core.model.transformer import Transformer
from illada_core.model.weights import find_weights
from illada_core.training.checkpoint import load_adapters
from illada_core.training.float8 import multiply_in_float8
from illada_core.training.layers import wrap_layers
from illada_core.training.lora import adapter_tensors, add_adapters, base_name, draw_adapters
from illada_core.training.parallel import Ranks
from illada_core.training.setup import Setup
from illada_core.training.sharding import (
    local_part,
    local_rows,
    shard_model,
)

# What some rows of a parameter are to hold.
RowsOf: TypeAlias = Callable[[slice], Tensor]


def starting_denoiser(
    setup: Setup, checkpoint: Path | None, ranks: Ranks, mesh: DeviceMesh | None, backend: str
) -> Denoiser:
    """Return the model to go on with, in shards over the mesh of all ranks if there are others."""
    keys, lora = setup.recipe.run, setup.recipe.lora
    compute = DTYPES[keys.compute_dtype]
    with torch.device("meta"):
        model = Transformer(setup.config, compute, backend)
    if lora.rank:
        add_adapters(model.to(compute), lora, keys.seed)
    if keys.float8:
        multiply_in_float8(model, ranks.device)
    wrap_layers(model, keys.compile, keys.recompute)
    denoiser = Denoiser(model)
    if mesh is not None:
        # With adapters layers are kept as they are gathered: a base in the compute dtype.
        cast = None if lora.rank or compute == torch.float32 else compute
        shard_model(denoiser, mesh, cast)
    denoiser.to_empty(device=ranks.device)
    fill(model, starting_weights(setup, checkpoint))
    if lora.rank:
        draw_adapters(model, keys.seed)
        if checkpoint is not None:
            load_adapters(checkpoint, model)
    return denoiser


def starting_weights(setup: Setup, checkpoint: Path | None) -> Mapping[str, RowsOf]:
    """Return where the rows of each weight come from, by the transformer's own names."""
    if checkpoint is not None and not setup.recipe.lora.rank:
        return stored_weights(checkpoint / MODEL)
    if setup.recipe.model.ckpt:
        config = setup.config
        reading = Reading(config.attention, config.shift)
        return stored_weights(find_model(setup.recipe.model.ckpt), reading)
    config, seed = setup.config, setup.recipe.run.seed
    return {
        name: partial(fresh_rows, config, name, shape, seed)
        for name, shape in parameter_shapes(config).items()
    }


def stored_weights(folder: Path, reading: Reading | None = None) -> dict[str, RowsOf]:
    """Return how to read each weight of a model folder. Raises CheckpointError, as others do."""
    stored = find_weights(folder, read_config(folder, reading))
    return {name: tensor.rows for name, tensor in stored.items()}


def fresh_rows(
    config: ModelConfig, name: str, shape: tuple[int, ...], seed: int, rows: slice
) -> Tensor:
    """Draw a parameter whole, so that its rows do not depend on the ranks, and keep some."""
    return initial_weight(config, name, shape, seed)[rows]


@torch.no_grad()
def fill(model: Transformer, weights: Mapping[str, RowsOf]) -> None:
    """Give each parameter but those of adapters its rows."""
    adapters = {id(adapter) for adapter in adapter_tensors(model).values()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in adapters:
            local_part(parameter).copy_(weights[base_name(name)](local_rows(parameter)))
