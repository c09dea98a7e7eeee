"""What is told of a run alone, under its line of the table: its stretches."""

from __future__ import annotations

from illada_core.training.history import RunHistory
from illada_core.training.stretches import describe


def details(run: RunHistory) -> list[str]:
    """Return the lines that tell of a run what a table has no room for."""
    return [
        describe({name: (was, now) for name, (was, now) in changed.items()}, line["step"] - 1)
        for line in run.stretches
        if (changed := line["changed"])
    ]
