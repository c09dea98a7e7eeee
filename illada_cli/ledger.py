"""An output file of JSON Lines that resumes: `-o FILE` of the verbs that ask a model line by line.

Lines are written whole and in the order of what is asked, so what is there is a beginning. Each
holds a key: a hash of what was asked and of all settings, the weights too. The same command again
takes up what is there without asking the model; what was asked otherwise is never mixed in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from illada_cli.ui import plural
from illada_core.decoding import decode_json
from illada_core.errors import UsageError
from illada_core.files import (
    flush,
    json_line,
    key_of,
    naming_file,
    sync,
    write_all,
    writing_file,
)

REPLACE_HINT = "--fresh replaces the file, -o names another"


@dataclass
class Ledger:
    """An open output file, and the `finished` lines that an earlier run left in it.

    `settings` name all that decides a line beside what is asked; `recalled` counts the finished
    lines that were asked for again, `written` those that are new.
    """

    file: FileIO
    path: Path
    settings: str
    finished: list[dict[str, Any]] = field(default_factory=list)
    recalled: int = 0
    written: int = 0

    @property
    def knows_more(self) -> bool:
        """Whether what is asked next was answered by an earlier run."""
        return self.recalled < len(self.finished)

    def key(self, asked: list[Any]) -> str:
        """Return the key of what is asked: plain JSON that names all of it."""
        return key_of([self.settings, *asked])

    def recall(self, asked: list[Any]) -> dict[str, Any]:
        """Return the next finished line. Raises UsageError if that answers something else."""
        fields = self.finished[self.recalled]
        self.recalled += 1
        if fields["key"] != self.key(asked):
            raise UsageError(
                f"{self.path}, line {self.recalled}: made from another item or with other settings",
                REPLACE_HINT,
            )
        return fields

    def write(self, fields: dict[str, Any], asked: list[Any]) -> None:
        """Write a line, whole."""
        line = json_line({**fields, "key": self.key(asked)}) + "\n"
        write_all(self.file, line.encode(), self.path)
        self.written += 1

    def refuse_rest(self, asked: int, noun: str) -> None:
        """Raise UsageError if there are more lines than were asked for."""
        if self.knows_more:
            raise UsageError(
                f"{self.path} holds {plural(len(self.finished), 'line')}, more than the "
                f"{plural(asked, noun)} here",
                REPLACE_HINT,
            )


@contextmanager
def open_ledger(
    path: Path, settings: str, fresh: bool, fault_of: Callable[[dict[str, Any]], str | None]
) -> Iterator[Ledger]:
    """Open an output file where an earlier run left it, or a new one, for this run alone.

    `fault_of` says of a line of JSON why it is none of this verb, None if it is one. Raises
    UsageError for a file with another line, DataError if another run is writing it.
    """
    with writing_file(path):
        finished, size = ([], 0) if fresh else read_finished(path, fault_of)
        with naming_file(path):
            file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed below)
        with file:
            with naming_file(path):
                os.truncate(file.fileno(), size)
                sync(path.parent)
            try:
                yield Ledger(file, path, settings, finished)
            finally:
                with naming_file(path):
                    flush(file)


def ledger_path(output: str | None) -> Path | None:
    """Return the output file that -o names, None where lines go to standard output."""
    return None if output in (None, "-") else Path(str(output))


def check_ledger(path: Path | None) -> None:
    """Raise UsageError for an output file that cannot be one, before any work."""
    if path and not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} to")
    if path and path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file", "name one with -o; without -o lines go to stdout")


def read_finished(
    path: Path, fault_of: Callable[[dict[str, Any]], str | None]
) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of an output file and their bytes; a torn last one does not count."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    whole = content[: content.rfind(b"\n") + 1]
    finished: list[dict[str, Any]] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            fields = decode_json(line)
        except ValueError:
            fields = {}
        is_ours = isinstance(fields, dict) and isinstance(fields.get("key"), str)
        fault = fault_of(fields if is_ours else {})
        if fault:
            raise UsageError(f"{path}, line {number}: {fault}", REPLACE_HINT)
        finished.append(fields)
    return finished, len(whole)
