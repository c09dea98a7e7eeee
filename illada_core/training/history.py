"""Runs as they look from outside: how far each is, how good, and what sets them apart. No torch.

All of it is read from their folders; nothing is written and no run is disturbed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illada_core.errors import UsageError
from illada_core.files import is_being_written
from illada_core.model.finding import RECIPE
from illada_core.training.lines import SAMPLE_LINE, read_lines, read_metrics
from illada_core.training.recipe.files import load_recipe
from illada_core.training.recipe.keys import Recipe, flat
from illada_core.training.run_folder import SAMPLES, is_run

RECENT_SHARE, RECENT_LEAST = 0.04, 10  # of the steps, whose mean is the loss now
# Where a run lies and what it computes on sets no results apart.
PLACES = frozenset(("data.path", "data.holdout", "run.device", "run.threads"))


@dataclass(frozen=True)
class RunHistory:
    """What a run's folder tells; `lines` are those of its metrics.

    `state` is finished, stopped, or running, which one that was killed stays until it goes on.
    `loss` is a mean over the last steps and `bound` the last validation, in nats per token.
    """

    name: str
    folder: Path
    state: str
    recipe: Recipe
    lines: list[dict[str, Any]]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of one kind, in order."""
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def step(self) -> int:
        return max((line["step"] for line in self.lines), default=0)

    @property
    def tokens(self) -> int:
        return max((line.get("tokens") or 0 for line in self.lines), default=0)

    @property
    def loss(self) -> float | None:
        losses = [line["loss"] for line in self.of_kind("step") if line.get("loss") is not None]
        recent = losses[-max(RECENT_LEAST, int(RECENT_SHARE * len(losses))) :]
        return sum(recent) / len(recent) if recent else None

    @property
    def bound(self) -> float | None:
        return self.last_validation("loss")

    @property
    def bits_per_byte(self) -> float | None:
        return self.last_validation("bits_per_byte")

    def last_validation(self, name: str) -> float | None:
        """Return a value of the newest validation that has it."""
        values = [line[name] for line in self.of_kind("validation") if line.get(name) is not None]
        return values[-1] if values else None

    @property
    def tokens_per_s(self) -> float | None:
        """The speed of the last step."""
        rates = [line["tokens_per_s"] for line in self.of_kind("step") if line.get("tokens_per_s")]
        return rates[-1] if rates else None

    @property
    def stretches(self) -> list[dict[str, Any]]:
        """What each stretch after the first changed, and from which step on."""
        told = ("step", "tokens", "changed")
        return [{name: line.get(name) for name in told} for line in self.of_kind("stretch")]

    def last_samples(self) -> list[dict[str, Any]]:
        """Return what the run wrote when it last wrote samples. Raises CheckpointError."""
        lines = read_lines(self.folder / SAMPLES, SAMPLE_LINE)
        return [line for line in lines if line["step"] == lines[-1]["step"]]

    def fields(self) -> dict[str, Any]:
        """Return the JSON object of this run, without its curves."""
        return {
            "run": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "step": self.step,
            "tokens": self.tokens,
            "total_tokens": self.recipe.run.total_tokens or None,
            "loss": self.loss,
            "bound": self.bound,
            "bits_per_byte": self.bits_per_byte,
            "tokens_per_s": self.tokens_per_s,
            "stretches": self.stretches,
        }

    def curves(self) -> dict[str, list[list[float]]]:
        """Return [tokens, loss] of every step, and [tokens, bound] of every validation."""
        return {
            kind: [
                [line["tokens"], line["loss"]]
                for line in self.of_kind(kind)
                if line.get("loss") is not None
            ]
            for kind in ("step", "validation")
        }


def find_runs(places: Iterable[Path]) -> list[Path]:
    """Return the folders of runs at some places, or one below them.

    Raises UsageError for a place that is none and holds none.
    """
    found: dict[Path, None] = {}
    for place in places:
        below = filter(is_run, place.glob("*/"))
        own = [place] if is_run(place) else sorted(below)
        if not own:
            raise UsageError(f"{place} holds no run", "give run folders, or a folder of them")
        found.update(dict.fromkeys(own))
    return list(found)


def read_run(folder: Path) -> RunHistory:
    """Read what a run's folder tells. Raises UsageError or CheckpointError for a damaged one."""
    recipe, lines = load_recipe(folder / RECIPE), read_metrics(folder)
    state = "running" if is_being_written(folder) else "stopped"
    if lines and lines[-1]["kind"] == "finished":
        state = "finished"
    return RunHistory(folder.resolve().name, folder, state, recipe, lines)


def differences(runs: Sequence[RunHistory]) -> dict[str, list[Any]]:
    """Return the keys of recipes in which runs differ, and the value that each has."""
    recipes = [flat(run.recipe) for run in runs]
    return {
        name: [recipe[name] for recipe in recipes]
        for name in (recipes[0] if recipes else ())
        if name not in PLACES and len({repr(recipe[name]) for recipe in recipes}) > 1
    }
