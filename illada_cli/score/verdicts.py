"""What scoring gives a person: one line an item, an output file that resumes, the accuracy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from illada_cli import ui
from illada_cli.score.requests import Prepared
from illada_core.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from illada_core.evaluation.scoring import Scores

DECIMALS = 6
Verdict = Mapping[str, Any]


def verdict(prepared: Prepared, scores: Scores) -> Verdict:
    """Return the JSON object of one scored item; scores are over the item's divisors."""
    from illada_core.evaluation.scoring import pick

    if not all(map(isfinite, scores.sums)):
        raise CheckpointError(
            "the model gives probabilities that are not numbers", "try --dtype float32"
        )
    request, divisors = prepared.request, prepared.item.divisors
    fields: dict[str, Any] = {}
    if request.line is not None:
        fields["line"] = request.line
    if request.id is not None:
        fields["id"] = request.id
    fields["scores"] = [
        round(total / divisor, DECIMALS)
        for total, divisor in zip(scores.sums, divisors, strict=True)
    ]
    if scores.standard_errors is not None:
        fields["standard_errors"] = [
            None if error is None else round(error / divisor, DECIMALS)
            for error, divisor in zip(scores.standard_errors, divisors, strict=True)
        ]
        fields["samples"] = scores.samples
    fields["pick"] = pick(scores.sums, divisors)
    fields["answer"] = request.answer
    fields["correct"] = None if request.answer is None else fields["pick"] == request.answer
    fields["forwards"] = scores.forwards
    fields["tokens"] = [len(ids) for ids in prepared.item.choices]
    fields["bytes"] = list(prepared.text_bytes) if prepared.text_bytes else None
    return fields


def plain_line(fields: Verdict) -> str:
    """Return an item as tab-separated text: line, pick, right or wrong, and the scores."""
    judged = {True: "right", False: "wrong", None: "-"}[fields["correct"]]
    scores = [f"{score:.4f}" for score in fields["scores"]]
    return "\t".join([str(fields["line"]), str(fields["pick"]), judged, *scores])


def plain_table(fields: Verdict, choices: list[str]) -> str:
    """Return one item as lines of score and choice, a star at the pick."""
    errors = fields.get("standard_errors") or [0.0] * len(choices)
    rows = [
        (
            "*" if place == fields["pick"] else " ",
            f"{score:.4f}" + (f" ± {error:.4f}" if error else ""),
            ui.printable(choice).replace("\n", "\\n"),
        )
        for place, (score, error, choice) in enumerate(
            zip(fields["scores"], errors, choices, strict=True)
        )
    ]
    width = max(len(score) for _, score, _ in rows)
    return "\n".join(f"{star} {score.rjust(width)}  {choice}" for star, score, choice in rows)


@dataclass
class Tally:
    """How many items were scored, and how many of those with an answer were right."""

    items: int = 0
    answered: int = 0
    right: int = 0

    def add(self, fields: Verdict) -> None:
        self.items += 1
        self.answered += fields["correct"] is not None
        self.right += bool(fields["correct"])

    def sentence(self) -> str:
        """Tell the accuracy with its 95 % interval, where there is one."""
        from illada_core.evaluation.scoring import wilson_interval

        items = f"{self.items:,} item{'s' * (self.items != 1)}"
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
    finished: list[Verdict] = field(default_factory=list)

    def key(self, prepared: Prepared) -> str:
        ids = [ids.tolist() for ids in (prepared.item.prompt, *prepared.item.choices)]
        named = [self.settings, ids, prepared.request.answer, prepared.request.id]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]

    def recall(self, number: int, prepared: Prepared) -> Verdict:
        """Return what is there of an item. Raises UsageError if that was scored otherwise."""
        fields = self.finished[number]
        if fields["key"] != self.key(prepared):
            raise UsageError(
                f"{self.path}, line {number + 1}: made from another item or with other settings",
                "--fresh replaces the file, -o names another",
            )
        return fields

    def write(self, fields: Verdict, prepared: Prepared) -> None:
        self.file.write(json.dumps({**fields, "key": self.key(prepared)}) + "\n")


@contextmanager
def open_ledger(path: Path, settings: str, fresh: bool) -> Iterator[Ledger]:
    """Open an output file where an earlier run left it, or a new one."""
    finished, size = ([], 0) if fresh else read_finished(path)
    with open(path, "a", encoding="utf-8") as file:
        os.truncate(file.fileno(), size)
        yield Ledger(file, path, settings, finished)
        file.flush()
        os.fsync(file.fileno())


def read_finished(path: Path) -> tuple[list[Verdict], int]:
    """Return the verdicts of an output file and their bytes; a torn last line does not count."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    whole = content[: content.rfind(b"\n") + 1]
    finished: list[Verdict] = []
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
