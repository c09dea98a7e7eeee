"""What scoring gives a person: one line an item, an output file that resumes, the accuracy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from illada_cli.ui import plural, printable
from illada_core.errors import UsageError
from illada_core.evaluation.items import ChoiceItem
from illada_core.evaluation.measures import NAMES, NORMALIZES, Normalize, Tally
from illada_core.evaluation.verdicts import Verdict
from illada_core.files import flush


def plain_line(verdict: Verdict) -> str:
    """Return an item as tab-separated text: line, pick, right or wrong, and the scores."""
    judged = {True: "right", False: "wrong", None: "-"}[verdict.correct]
    return "\t".join([str(verdict.request.line), str(verdict.pick), judged, *shown(verdict)])


def shown(verdict: Verdict) -> list[str]:
    """Return scores as text; what is only known to be below a number has a sign in front."""
    bounds = verdict.upper_bounds or verdict.scores
    return [
        f"<{bound:.4f}" if score is None else f"{score:.4f}"
        for score, bound in zip(verdict.scores, bounds, strict=True)
    ]


def plain_table(verdict: Verdict, choices: list[str]) -> str:
    """Return one item as lines of score and choice, a star at the pick."""
    errors = verdict.standard_errors or [0.0] * len(choices)
    rows = [
        (
            "*" if place == verdict.pick else " ",
            score + (f" ± {error:.4f}" if error else ""),
            printable(choice).replace("\n", "\\n"),
        )
        for place, (score, error, choice) in enumerate(
            zip(shown(verdict), errors, choices, strict=True)
        )
    ]
    width = max(len(score) for _, score, _ in rows)
    return "\n".join(f"{star} {score.rjust(width)}  {choice}" for star, score, choice in rows)


def accuracy_lines(tally: Tally, normalize: Normalize) -> list[str]:
    """Tell the accuracy by the measure that decides, then by each, with 95 % intervals."""
    items, decisive = plural(tally.items, "item"), tally.accuracy(normalize)
    if decisive is None:
        return [f"{items} scored, none with an answer"]
    low, high = (100 * share for share in decisive.interval)
    lines = [
        f"accuracy {100 * decisive.share:.1f} % (95 %: {low:.1f} to {high:.1f} %), "
        f"{decisive.right:,} right of {decisive.answered:,} in {items}"
    ]
    known = {name: found for name in NORMALIZES if (found := tally.accuracy(name))}
    if len(known) == 1:
        return lines
    width = max(len(NAMES[name]) for name in known)
    for name, found in known.items():
        low, high = (100 * share for share in found.interval)
        of = "" if found.answered == decisive.answered else f", of {found.answered:,}"
        lines.append(
            f"  {NAMES[name]:{width}} {100 * found.share:5.1f} % ({low:.1f} to {high:.1f} %){of}"
        )
    return lines


@dataclass
class Ledger:
    """An output file, and the verdicts that an earlier run left in it.

    Lines are written whole and in the order of the items, so what is there is a beginning. Each
    holds a key: a hash of the item, its answer and id, and of `settings`, which name all else that
    decides scores.
    """

    file: IO[str]
    path: Path
    settings: str
    finished: list[dict[str, Any]] = field(default_factory=list)

    def key(self, asked: ChoiceItem) -> str:
        item = asked.item
        ids = [ids.tolist() for ids in (item.prompt, *item.choices, *item.contexts)]
        named = [self.settings, ids, asked.request.answer, asked.request.id]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]

    def recall(self, number: int, asked: ChoiceItem) -> dict[str, Any]:
        """Return what is there of an item. Raises UsageError if that was scored otherwise."""
        fields = self.finished[number]
        if fields["key"] != self.key(asked):
            raise UsageError(
                f"{self.path}, line {number + 1}: made from another item or with other settings",
                "--fresh replaces the file, -o names another",
            )
        return fields

    def write(self, verdict: Verdict, asked: ChoiceItem) -> None:
        self.file.write(json.dumps({**verdict.fields(), "key": self.key(asked)}) + "\n")


@contextmanager
def open_ledger(path: Path, settings: str, fresh: bool) -> Iterator[Ledger]:
    """Open an output file where an earlier run left it, or a new one."""
    finished, size = ([], 0) if fresh else read_finished(path)
    with open(path, "a", encoding="utf-8") as file:
        os.truncate(file.fileno(), size)
        yield Ledger(file, path, settings, finished)
        flush(file)


def read_finished(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the verdicts of an output file and their bytes; a torn last line does not count."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    whole = content[: content.rfind(b"\n") + 1]
    finished: list[dict[str, Any]] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or "key" not in fields:
            fault = "not written by illada score -o"
        elif not isinstance(fields.get("picks"), dict):
            fault = "written by an earlier illada, without the sums and sizes of all measures"
        else:
            finished.append(fields)
            continue
        raise UsageError(
            f"{path}, line {number}: {fault}", "--fresh replaces the file, -o names another"
        )
    return finished, len(whole)
