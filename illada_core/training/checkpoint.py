"""A checkpoint's contents: the model in the released layout, AdamW's moments, and the progress.

    step-…/model/  step-…/optimizer.safetensors  step-…/state.json

`model/` holds the float32 masters, so a checkpoint loads wherever a model does. Where only adapters
learn, adapters.safetensors stands in its place. There is no generator state and no data position to
keep: order and noise are functions of seed and step.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from illada_core.decoding import shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding
from illada_core.model.finding import ADAPTERS, MODEL
from illada_core.model.transformer import Transformer
from illada_core.model.weights import load_model, save_model, write_tensors
from illada_core.training import run_folder
from illada_core.training.lora import adapter_tensors, restore_adapters
from illada_core.training.optim import moment_tensors, restore_moments
from illada_core.training.recipe.schedule import ScheduleState

MOMENTS = "optimizer.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a run has come; `updates` counts the steps that were not dropped."""

    step: int = 0
    tokens: int = 0
    updates: int = 0
    bad_steps: int = 0
    dropped_steps: int = 0
    validated_step: int = -1
    sampled_step: int = -1
    schedule: ScheduleState = field(default_factory=ScheduleState)


def save_checkpoint(
    run: Path,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    facts: dict[str, Any],
    tokenizer_file: Path | None,
    generation: dict[str, Any],
) -> Path:
    """Write the checkpoint of `progress.step`, complete or not at all; `facts` go beside it.

    `generation` are the defaults that the model's folder holds.
    """

    def fill(folder: Path) -> None:
        if adapters := adapter_tensors(model):
            write_tensors(on_host(adapters), folder / ADAPTERS)
        else:
            save_model(
                model,
                folder / MODEL,
                "illada",
                tokenizer_file,
                "float32",
                generation=generation,
            )
        write_tensors(on_host(moment_tensors(model, optimizer)), folder / MOMENTS)

    return run_folder.write_checkpoint(
        run, progress.step, fill, {"progress": asdict(progress), **facts}
    )


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def read_progress(path: Path, fingerprint: str) -> tuple[Progress, dict[str, Any]]:
    """Return the progress of an intact checkpoint, and the facts beside it.

    `fingerprint` is that of the dataset at hand; UsageError unless it is the one trained on so
    far, CheckpointError if the checkpoint is damaged.
    """
    facts = run_folder.read_checkpoint(path)
    with decoding(path / run_folder.STATE, CheckpointError):
        dataset = shaped(facts.get("dataset"), str, "dataset")
        progress = shaped(facts.pop("progress", None), Progress, "progress")
    if dataset != fingerprint:
        raise UsageError(
            f"the dataset has changed since {path} was saved "
            f"(fingerprint {fingerprint[:12]} instead of {dataset[:12]})",
            "give the dataset the run began with, or start over with --fresh",
        )
    if path != run_folder.checkpoint_path(path.parents[1], progress.step):
        raise CheckpointError(
            f"{path} holds step {progress.step}: it was renamed", "give it its own name back"
        )
    return progress, facts


def load_weights(
    path: Path, device: torch.device, compute_dtype: str, attention: str
) -> Transformer:
    """Load the float32 masters of a checkpoint."""
    return load_model(path / MODEL, device, "float32", compute_dtype, attention)


def load_moments(
    path: Path, model: Transformer, optimizer: torch.optim.Optimizer, updates: int
) -> None:
    """Put a checkpoint's moments back into a fresh optimizer."""
    restore_moments(model, optimizer, read_tensors(path / MOMENTS), updates)


def load_adapters(path: Path, model: Transformer) -> None:
    """Put a checkpoint's adapters back into a model that has fresh ones."""
    restore_adapters(model, read_tensors(path / ADAPTERS))


def read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from None
