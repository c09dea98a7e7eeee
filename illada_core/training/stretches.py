"""The stretches of a run: steps with the same settings, from resume to resume. No torch.

A checkpoint says which there were, so what a run was trained with is known at each of its steps. A
step's rows follow from the stretch that it belongs to: places go on where the one before ended,
and each row still comes once per epoch (laws 2 and 3). Where data lie and what they are computed
on belongs to no stretch; which data they are, mixing.py tells.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from illada_core.decoding import Count, shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding
from illada_core.training import run_folder
from illada_core.training.recipe.files import as_toml
from illada_core.training.recipe.keys import Recipe, flat, length_keys
from illada_core.training.recipe.schedule import Schedule, ScheduleState, extend, plan_stretch

STRETCHES, STRETCH = "stretches", "stretch"  # of state.json; the kind of its line in metrics.jsonl
ROWS = "batch.rows"
LEFT_OUT = ("data.", "log.", "plan.", "run.device", "run.threads")

# What changed at a resume: of each key its value before, and since.
Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Stretch:
    """Steps after `first_step`, whose rows are those from `first_place` on.

    `settings` are recipe keys by their full names: all in the first stretch, then what changed.
    """

    first_step: Count
    first_place: Count
    settings: dict[str, Any]


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Return the keys of a recipe that a stretch has."""
    return {name: value for name, value in flat(recipe).items() if not name.startswith(LEFT_OUT)}


def in_force(stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Return all settings of the last stretch."""
    return {name: value for each in stretches for name, value in each.settings.items()}


def place_after(stretches: Sequence[Stretch], step: int) -> int:
    """Return how many rows a run has been trained on after a step of its last stretch."""
    last = stretches[-1]
    return last.first_place + (step - last.first_step) * in_force(stretches)[ROWS]


def stretches_before(
    facts: dict[str, Any], checkpoint: Path | None, step: int, before: Recipe
) -> tuple[Stretch, ...]:
    """Return the stretches that a checkpoint tells of; one from before they were told has one.

    `before` is the recipe that the run had then. CheckpointError if what it says is damaged.
    """
    told = facts.get(STRETCHES)
    if told is None:
        return (Stretch(0, 0, settings_of(before)),)
    assert checkpoint is not None, "facts come from a checkpoint"
    with decoding(checkpoint / run_folder.STATE, CheckpointError):
        stretches = shaped(told, tuple[Stretch, ...], STRETCHES)
        steps = [each.first_step for each in stretches]
        if not steps or steps[0] or steps != sorted(set(steps)) or steps[-1] > step:
            raise ValueError("its stretches are not one after the other")
        for number, (one, two) in enumerate(pairwise(stretches), 1):
            shaped(in_force(stretches[:number]).get(ROWS), Count, ROWS)
            if place_after(stretches[:number], two.first_step) != two.first_place:
                raise ValueError(f"the stretch after step {one.first_step} ends at another place")
        shaped(in_force(stretches).get(ROWS), Count, ROWS)
    return stretches


def changes_since(stretches: Sequence[Stretch], recipe: Recipe) -> Changes:
    """Return what a recipe changes of the last stretch. Keys that it did not have yet do not."""
    before = in_force(stretches)
    return {
        name: (before[name], value)
        for name, value in settings_of(recipe).items()
        if name in before and before[name] != value
    }


def go_on(stretches: tuple[Stretch, ...], changes: Changes, step: int) -> tuple[Stretch, ...]:
    """Return the stretches of a run that goes on after a step with other settings.

    One in which no step was made is replaced.
    """
    if not changes:
        return stretches
    settings = {name: value for name, (_, value) in changes.items()}
    last = stretches[-1]
    if last.first_step == step:
        return (*stretches[:-1], replace(last, settings=last.settings | settings))
    return (*stretches, Stretch(step, place_after(stretches, step), settings))


def told_of(stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Return what a checkpoint says of the stretches of its run."""
    return {STRETCHES: [asdict(stretch) for stretch in stretches]}


def describe(changes: Changes, step: int) -> str:
    """Say what a run changes after a step."""
    parts = [
        f"{name} = {as_toml(now)} (was {as_toml(was)})" for name, (was, now) in changes.items()
    ]
    return f"from step {step + 1} on: {', '.join(parts)}"


def schedule_from(
    recipe: Recipe, planned: Schedule, state: ScheduleState, tokens: int, changes: Changes
) -> tuple[Schedule, ScheduleState]:
    """Return the schedule of the stretch that begins at `tokens` tokens, and its state.

    `planned` is the schedule from the run's beginning. Where the length of a run changes after its
    decay began, schedule.extension says how the rate goes on. Raises UsageError where it does not.
    """
    changed = [name for name in length_keys() if name in changes]
    if changed and (state.decay_start_tokens is not None or state.is_constant):
        if recipe.schedule.extension == "none":
            raise UsageError(
                f"the decay of this run has begun: {', '.join(changed)} can no longer change",
                "go on from the rate it has come to: --set schedule.extension=rewarm (or "
                "constant); or give the old value",
            )
        state = extend(planned, state, tokens, recipe.schedule.extension == "constant")
    if not state.start_tokens:
        return planned, state
    keys, total = recipe.schedule, planned.total_tokens
    return plan_stretch(keys, planned.peak_lr, total, state), state
