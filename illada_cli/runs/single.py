"""What is told of a run alone, under its line of the table: its stretches and its last samples."""

from __future__ import annotations

from typing import Any

from illada_core.training.history import RunHistory
from illada_core.training.stretches import describe

MOST_CHARACTERS = 60  # of each part of a sample


def details(run: RunHistory) -> list[str]:
    """Return the lines that tell of a run what a table has no room for."""
    changes = [
        describe({name: (was, now) for name, (was, now) in changed.items()}, line["step"] - 1)
        for line in run.stretches
        if (changed := line["changed"])
    ]
    samples = run.last_samples()
    if not samples:
        return changes
    head = f"samples of step {samples[-1]['step']}, in brackets what was written:"
    return [*changes, head, *map(sample_line, samples)]


def sample_line(line: dict[str, Any]) -> str:
    """Return a sample in its place, and what stood there."""
    before, text, after, original = (
        " ".join((line.get(name) or "").split())
        for name in ("prompt", "text", "suffix", "original")
    )
    shown = f"  {before[-MOST_CHARACTERS:]} [{text[:MOST_CHARACTERS]}] {after[:MOST_CHARACTERS]}"
    was = f"  (was: {original[:MOST_CHARACTERS]})" if original else ""
    return f"{shown.rstrip()}{was}"
