"""What a table gives a person: aligned text, Markdown, JSON or a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from illada_cli.eval.options import EvalOptions
from illada_cli.ui import Talk, duration, printable, table
from illada_core.benchmark.report import Comparison, Row, average_of
from illada_core.errors import UsageError
from illada_core.files import write_file

HEAD = ("task", "items", "here", "95 %", "published", "", "metric", "shots", "forwards")
TEXT_HEAD = ("tokens/forward", "cut", "unread")


@dataclass(frozen=True)
class Shown:
    """Rows and tests to show; `labels` name the rows where tasks alone do not."""

    rows: Sequence[Row]
    tests: Sequence[Comparison] = ()
    labels: Sequence[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of the rows."""
        labels = self.labels or [""] * len(self.rows)
        return [
            f"{row.task}, {label}" if label else row.task
            for row, label in zip(self.rows, labels, strict=True)
        ]


def show(shown: Shown, asked: EvalOptions, talk: Talk) -> None:
    """Write a table to standard output, and what there is to remark to stderr."""
    shown = with_average(shown)
    if asked.as_json:
        for name, row in zip(shown.names, shown.rows, strict=True):
            print(json.dumps({"name": name, **row.fields()}))
        for test in shown.tests:
            print(json.dumps({"test": "paired", **test.fields()}))
    else:
        form = markdown if asked.markdown else table
        print(form(cells_of(shown)))
        if shown.tests:
            print()
            print(form(test_cells(shown.tests)))
    if not asked.as_json:
        for row in shown.rows:
            for remark in row.remarks:
                talk.say_once(f"{row.task}: {remark}")
        tell_rest(shown, talk)
    if asked.plot:
        draw(shown, asked, talk)


def with_average(shown: Shown) -> Shown:
    """Add the mean over the tasks of one result, if there are several."""
    average = None if shown.labels else average_of(shown.rows)
    return shown if average is None else replace(shown, rows=[*shown.rows, average])


def tell_rest(shown: Shown, talk: Talk) -> None:
    """Say how long it took."""
    seconds = {row.task: row.seconds for row in shown.rows if row.seconds is not None}
    if seconds and not shown.labels:
        talk.say(f"{duration(sum(seconds.values()))} in the model")


def cells_of(shown: Shown) -> list[tuple[str, ...]]:
    """Return the table of rows, without columns that nothing is known for."""
    rows = [HEAD + TEXT_HEAD]
    for name, row in zip(shown.names, shown.rows, strict=True):
        low, high = (100 * share for share in row.interval)
        inside = {True: "inside", False: "outside", None: ""}[row.is_inside]
        rows.append(
            (
                printable(name),
                f"{row.items:,}",
                f"{100 * row.value:.1f}",
                f"{low:.1f} to {high:.1f}",
                "" if row.published is None else f"{100 * row.published:.1f}",
                inside,
                row.metric,
                "" if row.shots is None else str(row.shots),
                "" if row.forwards is None else f"{row.forwards:,}",
                "" if row.tokens_per_forward is None else f"{row.tokens_per_forward:.2f}",
                percent(row.cut_by_length),
                percent(row.unread),
            )
        )
    known = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    return [tuple(row[place] for place in known) for row in rows]


def percent(share: float | None) -> str:
    """Return a share as percent."""
    return "" if share is None else f"{100 * share:.1f} %"


def test_cells(tests: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Return the table of paired tests."""
    rows: list[tuple[str, ...]] = [
        ("paired", "items", "difference", "95 %", "better", "worse", "McNemar p", "metric")
    ]
    for test in tests:
        found = test.paired
        low, high = (100 * share for share in found.interval)
        rows.append(
            (
                printable(test.task),
                f"{found.count:,}",
                f"{100 * found.difference:+.1f}",
                f"{low:+.1f} to {high:+.1f}",
                f"{found.won:,}",
                f"{found.lost:,}",
                f"{found.p_value:.3g}",
                test.metric,
            )
        )
    return rows


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out rows as a Markdown table."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def draw(shown: Shown, asked: EvalOptions, talk: Talk) -> None:
    """Write the picture. Raises UsageError where matplotlib is missing."""
    try:
        from illada_core.benchmark.picture import picture
    except ImportError:
        raise UsageError("--plot needs matplotlib", "pip install 'illada[plot]'") from None
    assert asked.plot is not None
    main: dict[str, Row] = {}
    for name, row in zip(shown.names, shown.rows, strict=True):
        main.setdefault(name, row)
    write_file(asked.plot, picture(list(main.values()), list(main)))
    talk.say(f"wrote {asked.plot}")
