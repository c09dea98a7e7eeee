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
from illada_core.evaluation.scoring import wilson_interval
from illada_core.evaluation.verdicts import Verdict
from illada_core.files import flush


def plain_line(verdict: Verdict) -> str:
    """Return an item as tab-separated text: line, pick, right or wrong, and the scores."""
    judged = {True: "right", False: "wrong", None: "-"}[verdict.correct]
    scores = [f"{score:.4f}" for score in verdict.scores]
    return "\t".join([str(verdict.request.line), str(verdict.pick), judged, *scores])


def plain_table(verdict: Verdict, choices: list[str]) -> str:
    """Return one item as lines of score and choice, a star at the pick."""
    errors = verdict.standard_errors or [0.0] * len(choices)
    rows = [
        (
            "*" if place == verdict.pick else " ",
            f"{score:.4f}" + (f" ± {error:.4f}" if error else ""),
            printable(choice).replace("\n", "\\n"),
        )
        for place, (score, error, choice) in enumerate(
            zip(verdict.scores, errors, choices, strict=True)
        )
    ]
    width = max(len(score) for _, score, _ in rows)
    return "\n".join(f"{star} {score.rjust(width)}  {choice}" for star, score, choice in rows)


@dataclass
class Accuracy:
    """How many items were scored, and how many of those with an answer were right."""

    items: int = 0
    answered: int = 0
    right: int = 0

    def add(self, correct: bool | None) -> None:
        """Count an item; None is one without an answer."""
        self.items += 1
        self.answered += correct is not None
        self.right += bool(correct)

    def sentence(self) -> str:
        """Tell the accuracy with its 95 % interval, where there is one."""
        items = plural(self.items, "item")
        if not self.answered:
            return f"{items} scored, none with an answer"
        low, high = (100 * share for share in wilson_interval(self.right, self.answered))
        return (
            f"accuracy {100 * self.right / self.answered:.1f} % "
            f"(95 %: {low:.1f} to {high:.1f} %), {self.right:,} right of {self.answered:,} "
            f"in {items}"
        )


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
        ids = [ids.tolist() for ids in (asked.item.prompt, *asked.item.choices)]
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
            raise UsageError(
                f"{path}, line {number}: not written by illada score -o",
                "--fresh replaces the file, -o names another",
            )
        finished.append(fields)
    return finished, len(whole)
