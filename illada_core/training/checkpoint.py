"""A checkpoint's contents: the model in the released layout, AdamW's moments, and the progress.

    step-…/model/  step-…/optimizer.safetensors  step-…/state.json

`model/` holds the float32 masters, so a checkpoint loads wherever a model does. Where only adapters
learn, adapters.safetensors stands in its place. Of a model in shards weights and moments lie in a
file a rank, model/model-00001.safetensors and so on, each with neighbouring rows of every tensor;
whoever reads them takes the rows that it needs. There is no generator state and no data position to
keep: order and noise are functions of seed and step.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from illada_core.decoding import shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding
from illada_core.model.finding import ADAPTERS
from illada_core.model.layouts import own_layout, stored_names
from illada_core.model.stored import StoredTensor, find_tensors
from illada_core.model.transformer import Transformer
from illada_core.model.weights import Export
from illada_core.training import run_folder
from illada_core.training.lora import restore_adapters
from illada_core.training.optim import moment_tensors, restore_moments
from illada_core.training.parallel import Ranks, failing_alike
from illada_core.training.recipe.schedule import ScheduleState

MOMENTS = "optimizer"


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


@dataclass(frozen=True)
class Contents:
    """What a checkpoint is made of: tensors, whole or in shards, progress and facts beside it.

    `export` says how the model's folder is written.
    """

    model: Transformer
    optimizer: torch.optim.AdamW
    progress: Progress
    facts: dict[str, Any]
    export: Export

    @property
    def state(self) -> dict[str, Any]:
        return {"progress": asdict(self.progress), **self.facts}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights under the keys that they are stored by."""
        weights, config = self.model.state_dict(), self.model.config
        names = stored_names(config, own_layout(config))
        return {key: weights[ours] for ours, key in names.items()}

    def moments(self) -> dict[str, Tensor]:
        """Return AdamW's moments; none before its first update."""
        return moment_tensors(self.model, self.optimizer) if self.progress.updates else {}


def read_progress(
    path: Path, fingerprint: str | None, ranks: Ranks, is_own: bool = True
) -> tuple[Progress, dict[str, Any]]:
    """Return the progress of an intact checkpoint, and the facts beside it.

    Every rank checks its share of the files. `fingerprint` is that of the dataset at hand, None of
    a mixture, which may change; UsageError unless it is the one trained on so far, CheckpointError
    if the checkpoint is damaged, or goes by another step's name in its own run, on all ranks.
    """
    with failing_alike(ranks):
        facts = run_folder.read_checkpoint(path, ranks.rank, ranks.world)
    with decoding(path / run_folder.STATE, CheckpointError):
        dataset = shaped(facts.get("dataset"), str, "dataset")
        progress = shaped(facts.pop("progress", None), Progress, "progress")
    if fingerprint not in (None, dataset) and not facts.get("mixture"):
        raise UsageError(
            f"the dataset has changed since {path} was saved "
            f"(fingerprint {str(fingerprint)[:12]} instead of {dataset[:12]})",
            "give the dataset the run began with, or start over with --fresh",
        )
    if is_own and path != run_folder.checkpoint_path(path.parents[1], progress.step):
        raise CheckpointError(
            f"{path} holds step {progress.step}: it was renamed", "give it its own name back"
        )
    return progress, facts


def load_moments(
    path: Path, model: Transformer, optimizer: torch.optim.Optimizer, updates: int
) -> None:
    """Put a checkpoint's moments back into a fresh optimizer."""
    restore_moments(model, optimizer, find_parts(path, MOMENTS), updates)


def load_adapters(path: Path, model: Transformer) -> None:
    """Put a checkpoint's adapters back into a model that has fresh ones."""
    restore_adapters(model, find_parts(path, Path(ADAPTERS).stem))


def find_parts(path: Path, name: str) -> dict[str, StoredTensor]:
    """Find the tensors of a checkpoint's file, or of its parts of all ranks."""
    found, broken = find_tensors(sorted(path.glob(f"{name}*.safetensors")))
    if broken:
        raise CheckpointError(f"the parts of {path / name} do not fit together: {broken[0]}")
    return found
