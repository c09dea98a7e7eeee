"""The answers of a model as they came: append-only JSON Lines that any later run looks up by key.

A line is whole or does not count, so a kill at any moment costs what was under way and no more.
Only places of lines are held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from illada_core.decoding import decode_json
from illada_core.errors import DataError, UsageError
from illada_core.files import flush, json_line, naming_file, sync, write_all, writing_file

NAME = "answers"
SUFFIX = ".jsonl"


class Answers:
    """What a folder holds of answers: `find` looks one up, `write` adds one to this run's file."""

    def __init__(self, folder: Path, path: Path, file: FileIO | None) -> None:
        self.folder, self.path, self.file = folder, path, file
        self.places: dict[str, tuple[Path, int]] = {}
        self.readers: dict[Path, Any] = {}
        self.read: dict[Path, tuple[int, int]] = {}  # how many bytes and lines of each file
        self.refresh()

    def refresh(self) -> None:
        """Take in what was written to any of the files, by other processes too."""
        for path in answer_files(self.folder):
            size, count = self.read.get(path, (0, 0))
            for place, end, fields in enumerate_lines(path, size, count):
                self.places.setdefault(fields["key"], (path, place))
                size, count = end, count + 1
            self.read[path] = (size, count)

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def find(self, key: str) -> dict[str, Any]:
        """Return an answer. Raises KeyError where there is none."""
        path, place = self.places[key]
        if path not in self.readers:
            self.readers[path] = open(path, "rb")  # noqa: SIM115 (closed by `close`)
        reader = self.readers[path]
        reader.seek(place)
        fields: dict[str, Any] = decode_json(reader.readline())
        return fields

    def write(self, key: str, fields: dict[str, Any]) -> None:
        """Write an answer, whole."""
        assert self.file is not None
        place = self.file.seek(0, os.SEEK_END)
        write_all(self.file, (json_line({"key": key, **fields}) + "\n").encode(), self.path)
        self.places[key] = (self.path, place)

    def close(self) -> None:
        """Close the files that were read from."""
        for reader in self.readers.values():
            reader.close()
        self.readers.clear()


@contextmanager
def open_answers(folder: Path, rank: int = 0) -> Iterator[Answers]:
    """Open the answers of a folder, and this rank's file to write to.

    Raises UsageError for a file that holds something else, DataError if another run writes it.
    """
    path = folder / f"{NAME}{f'-{rank}' if rank else ''}{SUFFIX}"
    with writing_file(path):
        with naming_file(path):
            file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed below)
        with file:
            with naming_file(path):
                os.truncate(file.fileno(), whole_size(path))
                sync(folder)
            answers = Answers(folder, path, file)
            try:
                yield answers
            finally:
                answers.close()
                with naming_file(path):
                    flush(file)


def answer_files(folder: Path) -> list[Path]:
    """Return the files of answers in a folder: one for each rank that ever wrote there."""
    return sorted(folder.glob(f"{NAME}*{SUFFIX}"))


def remove_answers(folder: Path) -> None:
    """Delete all answers of a folder. Raises DataError if a run is writing there."""
    for path in answer_files(folder):
        with writing_file(path):
            path.unlink()


def whole_size(path: Path) -> int:
    """Return how many bytes of a file are whole lines."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        while size:
            start = max(0, size - (1 << 16))
            file.seek(start)
            place = file.read(size - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            size = start
    return 0


def enumerate_lines(
    path: Path, place: int, lines: int
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the whole lines of a file from a place on, with where they begin and end.

    `lines` stand before it. Raises UsageError for a line that is no answer.
    """
    with open(path, "rb") as file:
        file.seek(place)
        for number, line in enumerate(file, lines + 1):
            if not line.endswith(b"\n"):
                return  # torn, or being written by another rank
            try:
                fields = decode_json(line)
            except ValueError:
                fields = None
            if not isinstance(fields, dict) or not isinstance(fields.get("key"), str):
                raise UsageError(
                    f"{path}, line {number}: not an answer that illada eval wrote",
                    "--fresh replaces the file, -o names another folder",
                )
            yield place, place + len(line), fields
            place += len(line)


def require_answer(answers: Answers, key: str, what: str) -> dict[str, Any]:
    """Return an answer. Raises DataError where there is none."""
    if key not in answers:
        raise DataError(f"{what} has no answer yet", "run the same command again to go on")
    return answers.find(key)
