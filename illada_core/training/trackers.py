"""Where metrics go beside metrics.jsonl: TensorBoard, Weights & Biases or trackio, each an extra.

W&B and trackio are spoken to by the calls that they share. A run that is gone on with goes on there
too, under a name that its first start gave it; steps that are made again are those sent before.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from illada_core.errors import first_line
from illada_core.training.recipe.keys import Recipe, flat
from illada_core.training.run_folder import METRICS, TENSORBOARD, read_starts

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


class Trackers:
    """Those of a run, none of which can end it: one that fails gets no more, and it is told once.

    A run that ends by an error of its own tells that one alone.
    """

    def __init__(self, wanted: Mapping[str, Callable[[], Tracker]]) -> None:
        self.taking: dict[str, Tracker] = {}
        self.failures: dict[str, str] = {}  # of each that failed, until they are told
        self.failed: set[str] = set()
        for name, begin in wanted.items():
            with self.surviving(name):
                self.taking[name] = begin()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send the numbers of a step."""
        for name in [name for name in self.taking if name not in self.failed]:
            with self.surviving(name):
                self.taking[name].write(step, numbers)

    def close(self) -> None:
        """Let all send what they have."""
        while self.taking:
            name, tracker = self.taking.popitem()
            with self.surviving(name):
                tracker.close()

    def told(self) -> list[str]:
        """Return which have failed since this was asked for last, a sentence each."""
        failures, self.failures = self.failures, {}
        return [
            f"{name} takes no more of this run, which {METRICS} has all of: {reason}"
            for name, reason in failures.items()
        ]

    @contextmanager
    def surviving(self, name: str) -> Iterator[None]:
        """Take note of what a tracker raises, which may be anything."""
        try:
            yield
        except Exception as error:
            if name not in self.failed:
                self.failed.add(name)
                self.failures[name] = first_line(error)


def open_trackers(run: Path, last_step: int, recipe: Recipe) -> Trackers:
    """Return the trackers that a recipe asks for; environment.json must tell of a start."""
    wanted: dict[str, Callable[[], Tracker]] = {}
    if recipe.log.tensorboard:
        wanted["tensorboard"] = partial(TensorBoard, run, last_step)
    if recipe.log.tracker != "none":
        wanted[recipe.log.tracker] = partial(Online, recipe.log.tracker, run, recipe)
    return Trackers(wanted)
