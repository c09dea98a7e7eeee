"""The past of a run, held against what is asked for now: how far it is, and what changes here.

A fresh run has none, but may take AdamW's moments along from the run that its weights are from.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from illada_core.data.mixture import Phase
from illada_core.errors import UsageError
from illada_core.model.finding import RECIPE, newest_checkpoint
from illada_core.training import mixing, stretches
from illada_core.training.checkpoint import Progress, read_progress
from illada_core.training.metrics import device_name
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.files import load_recipe
from illada_core.training.recipe.schedule import Schedule, end_tokens
from illada_core.training.run_folder import STATE
from illada_core.training.setup import Setup
from illada_core.training.stretches import Changes, Stretch


@dataclass(frozen=True)
class Past:
    """What a run goes on from.

    `moments` is the checkpoint that AdamW's are read from, None for none; `schedule` that of the
    coming steps. `changes` are those of the recipe that begin with the next step.
    """

    progress: Progress
    moments: Path | None
    schedule: Schedule
    stretches: tuple[Stretch, ...]
    changes: Changes
    phases: list[Phase]
    is_new_mixture: bool
    remarks: tuple[str, ...]


def read_past(
    setup: Setup, checkpoint: Path | None, base: str | None, ranks: Ranks, shard: int
) -> Past:
    """Return what a run goes on from: its newest checkpoint, if it has one.

    Raises UsageError if what is asked for cannot go on from there, CheckpointError for damage.
    """
    if checkpoint is None:
        return beginning(setup, ranks)
    before = load_recipe(checkpoint.parents[1] / RECIPE)
    fingerprint = None if setup.slots else setup.train.fingerprint
    progress, facts = read_progress(checkpoint, fingerprint, ranks)
    check_base(base, facts)
    told = stretches.stretches_before(facts, checkpoint, progress.step, before)
    changes = stretches.changes_since(told, setup.recipe)
    schedule, state = stretches.schedule_from(
        setup.recipe, setup.schedule, progress.schedule, progress.tokens, changes
    )
    progress = replace(progress, schedule=state)
    place = stretches.place_after(told, progress.step)
    phases = mixing.phases_of(setup, facts, checkpoint, place)
    is_over = progress.tokens >= end_tokens(schedule, state)
    changes = {} if is_over else changes
    is_new_mixture = bool(phases) and phases[-1].first_place == place and not is_over
    remarks = changed_circumstances(facts, circumstances(ranks, shard))
    remarks += [stretches.describe(changes, progress.step)] if changes else []
    remarks += [mixing.describe(setup, progress.step)] if is_new_mixture else []
    return Past(
        progress=progress,
        moments=checkpoint,
        schedule=schedule,
        stretches=stretches.go_on(told, changes, progress.step),
        changes=changes,
        phases=phases,
        is_new_mixture=is_new_mixture,
        remarks=tuple(remarks),
    )


def beginning(setup: Setup, ranks: Ranks) -> Past:
    """Return what a fresh run goes on from."""
    progress, moments = Progress(), None
    if setup.recipe.optimizer.keep_moments:
        moments = donor_of(setup.recipe.model.ckpt)
        updates = read_progress(moments, None, ranks, is_own=False)[0].updates
        progress = Progress(updates=updates)
    phases = mixing.phases_of(setup, {}, None, 0)
    return Past(
        progress=progress,
        moments=moments,
        schedule=setup.schedule,
        stretches=(Stretch(0, 0, stretches.settings_of(setup.recipe)),),
        changes={},
        phases=phases,
        is_new_mixture=bool(phases),
        remarks=(mixing.describe(setup, 0),) if phases else (),
    )


def donor_of(ckpt: str) -> Path:
    """Return the checkpoint that a new run takes weights and moments from. Raises UsageError."""
    path = Path(ckpt)
    donor = path if (path / STATE).is_file() else newest_checkpoint(path)
    if donor is None:
        raise UsageError(
            f"{ckpt} has no moments to keep (optimizer.keep_moments)",
            "name a run, or one of its checkpoints: --ckpt runs/NAME",
        )
    return donor


def check_base(base: str | None, facts: dict[str, Any]) -> None:
    """Raise UsageError if a checkpoint's adapters belong to another base."""
    if facts.get("base") != base:
        raise UsageError(
            "the model that the adapters of this run belong to has changed",
            "restore what model.ckpt names, or start over with --fresh",
        )


def circumstances(ranks: Ranks, shard: int) -> dict[str, Any]:
    """Return what must not change for losses to be the same bit for bit."""
    return {
        "device": device_name(ranks.device),
        "ranks": ranks.world,
        "shard": shard,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def changed_circumstances(facts: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say what is different from when a checkpoint was saved."""
    return [
        f"{name} was {facts.get(name)} when the run was saved and is {value} now: "
        "losses may differ in their last digits"
        for name, value in now.items()
        if facts.get(name, value) != value
    ]
