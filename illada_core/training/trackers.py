"""Where metrics go beside metrics.jsonl: TensorBoard, Weights & Biases or trackio, each an extra.

W&B and trackio are spoken to by the calls that they share. A run that is gone on with goes on there
too, under a name that its first start gave it; steps that are made again are those sent before.
"""

from collections.abc import Mapping
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from illada_core.training.recipe.keys import Recipe, flat
from illada_core.training.run_folder import TENSORBOARD, read_starts

PROJECT = "illada"


class Tracker(Protocol):
    """What takes the numbers of a step."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Events in the run's folder; those of steps after `last_step` are forgotten."""

    def __init__(self, run: Path, last_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # needs tensorboard, an extra

        folder = str(run / TENSORBOARD)
        self.writer: Any = SummaryWriter(folder, purge_step=last_step + 1)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self.writer.add_scalar(name, number, step)

    def close(self) -> None:
        self.writer.close()


class Online:
    """A run of `wandb` or `trackio`, by the name of the package."""

    def __init__(self, package: str, run: Path, recipe: Recipe) -> None:
        self.package = import_module(package)
        name, config = run.resolve().name, flat(recipe)
        if package == "wandb":
            first = sha256(f"{name} {read_starts(run)[0].get('time')}".encode()).hexdigest()[:16]
            self.package.init(project=PROJECT, name=name, id=first, resume="allow", config=config)
        else:
            self.package.init(project=PROJECT, name=name, resume="allow", config=config)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self.package.log(dict(numbers), step=step)

    def close(self) -> None:
        self.package.finish()


def open_trackers(run: Path, last_step: int, recipe: Recipe) -> list[Tracker]:
    """Return the trackers that a recipe asks for; environment.json must tell of a start."""
    trackers: list[Tracker] = [TensorBoard(run, last_step)] if recipe.log.tensorboard else []
    if recipe.log.tracker != "none":
        trackers.append(Online(recipe.log.tracker, run, recipe))
    return trackers
