"""Presets of `illada eval`: which tasks a table has, how each is asked, and what others measured.

Files are recipes/eval/NAME.toml, or a person's own. No torch.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from illada_core.benchmark.definition import MOST_SHOTS, find_packaged
from illada_core.decoding import shaped
from illada_core.errors import UsageError
from illada_core.files import decoding, read_toml
from illada_core.packaged import packaged


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a suite asks one task; None leaves it to the task.

    `task` is one of ours, `harness` the one of lm-evaluation-harness that the figures are about.
    `generate` names a preset of recipes/generate or holds settings, `score` holds those of scoring.
    `published` are figures in percent by model.
    """

    task: str
    harness: str = ""
    shots: Annotated[int, range(MOST_SHOTS)] | None = None
    metric: str = ""
    bos: bool | None = None
    samples: Annotated[int, range(1, 1 << 16)] = 1
    generate: str | dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A table: its tasks in order, and where its figures come from."""

    title: str
    source: str
    tasks: tuple[Entry, ...]
    name: str = ""

    def entry(self, task: str) -> Entry | None:
        """Return how a task is asked, by our name or the harness's; None if it is not in it."""
        return next((each for each in self.tasks if task in (each.task, each.harness)), None)


def packaged_suites() -> list[str]:
    """Return the names of the suites that come with illada."""
    return list(packaged("recipes/eval"))


def load_suite(wanted: str) -> Suite:
    """Return a suite by its name or its file. Raises UsageError for what cannot be one."""
    path = find_packaged(wanted, packaged("recipes/eval"), "preset")
    tables = read_toml(path)
    with decoding(path, UsageError, fault="is no preset"):
        suite: Suite = shaped({**tables, "name": path.stem}, Suite, "preset")
    return suite
