"""The work of `illada runs`: folders in, a table, JSON or a picture of them out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from illada_cli.runs.options import RunsOptions
from illada_cli.runs.single import details
from illada_cli.ui import Talk, columns_of, printable, si, table
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import write_file, write_json
from illada_core.training.curves import can_draw
from illada_core.training.history import RunHistory, differences, find_runs, read_run

MOST_TOLD = 3  # keys in a label
HEAD = ("run", "state", "steps", "tokens", "loss", "bound", "bits/byte", "tok/s")


def run(asked: RunsOptions) -> None:
    """Show what is asked for; a damaged run is told, and the others are shown."""
    talk = Talk(asked.quiet)
    found = []
    for folder in find_runs(asked.folders or [Path("runs")]):
        try:
            found.append(read_run(folder))
        except (CheckpointError, UsageError) as error:
            talk.warn(error.sentence)
    apart = differences(found)
    if asked.compare:
        compare(found, apart, asked.compare)
    if asked.as_json:
        for place, each in enumerate(found):
            print(json.dumps({**each.fields(), "recipe": values_at(apart, place)}))
    elif found:
        told = details(found[0]) if len(found) == 1 else []
        print(printable("\n".join([shown(found, apart, columns_of(sys.stdout)), *told])))


def shown(runs: list[RunHistory], apart: dict[str, list[Any]], columns: int | None) -> str:
    """Lay out runs as a table, with a column for each key in which their recipes differ.

    Where the lines would be longer than `columns`, the keys become the lines of a second table.
    """
    rows = rows_of(runs)
    lines = [(name, *map(str, values)) for name, values in apart.items()]
    wide = table([(*row, *(line[place] for line in lines)) for place, row in enumerate(rows)])
    if columns is None or not apart or max(map(len, wide.splitlines())) <= columns:
        return wide
    names = ("recipe", *(each.name for each in runs))
    return f"{table(rows)}\n\n{table([names, *lines])}"


def rows_of(runs: list[RunHistory]) -> list[tuple[str, ...]]:
    """Return what is known of each run, under a head."""
    rows: list[tuple[str, ...]] = [HEAD]
    for each in runs:
        numbers = (each.loss, each.bound, each.bits_per_byte)
        rows.append(
            (
                each.name,
                each.state,
                f"{each.step:,}",
                si(each.tokens).strip(),
                *("–" if number is None else f"{number:.3f}" for number in numbers),
                si(each.tokens_per_s).strip() if each.tokens_per_s else "–",
            )
        )
    return rows


def values_at(apart: dict[str, list[Any]], place: int) -> dict[str, Any]:
    """Return what one of the runs has for each key in which they differ."""
    return {name: values[place] for name, values in apart.items()}


def label_of(run: RunHistory, own: dict[str, Any]) -> str:
    """Name a run in a picture, by what its recipe has of its own."""
    told = [f"{name.partition('.')[2]} {value}" for name, value in own.items()]
    return f"{run.name} ({', '.join(told[:MOST_TOLD])})" if told else run.name


def compare(runs: list[RunHistory], apart: dict[str, list[Any]], file: Path) -> None:
    """Draw the curves of runs over each other, and write them. Raises UsageError."""
    if not can_draw():
        raise UsageError("a picture needs matplotlib", "pip install 'illada[plot]'")
    from illada_core.training.overlay import overlay

    drawn = [each for each in runs if each.curves()["step"]]
    if not drawn:
        raise UsageError("none of these runs has made a step")
    labels = [label_of(each, values_at(apart, runs.index(each))) for each in drawn]
    stem = file.with_suffix("") if file.suffix in (".png", ".json") else file
    write_file(stem.with_name(f"{stem.name}.png"), overlay(drawn, labels))
    content = [
        {**each.fields(), "recipe": values_at(apart, place), "curves": each.curves()}
        for place, each in enumerate(runs)
    ]
    write_json(stem.with_name(f"{stem.name}.json"), content)
