"""JSON Lines in: from a file or standard input, each bad line named by its number.

Standard input is read beside the work, so that a slow writer holds up nobody and a signal is
answered at once.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Generic, Literal, TypeVar

from illada_cli.ui import Talk
from illada_core.decoding import decode_json
from illada_core.errors import IlladaError, UsageError

Parsed = TypeVar("Parsed")
OnError = Literal["stop", "skip"]
CHUNK_BYTES = 1 << 16
CHUNKS_AHEAD = 64
IDLE_S = 0.02


@dataclass
class JsonLines(Generic[Parsed]):
    """The objects of JSON Lines, each as `parse(line_number, fields)` makes it.

    A line that is no JSON object, or that `parse` refuses with an IlladaError, is a UsageError
    with its number; with on_error "skip" it is told, counted in `skipped` and left out.
    """

    source: str
    parse: Callable[[int, dict[str, Any]], Parsed]
    on_error: OnError
    talk: Talk
    skipped: int = 0

    @property
    def name(self) -> str:
        return "standard input" if self.source == "-" else self.source

    def __iter__(self) -> Iterator[Parsed]:
        """Return the objects in order, waiting for each."""
        for item in self.arriving():
            if item is None:
                time.sleep(IDLE_S)
            else:
                yield item

    def arriving(self) -> Iterator[Parsed | None]:
        """Return the objects in order, and None whenever the next one is not there yet."""
        for number, line in enumerate_arrived(raw_lines(self.source)):
            if line is None:
                yield None
            elif line.strip():
                try:
                    yield self.parse(number, fields_of(line))
                except IlladaError as error:
                    self.refuse(number, error)

    def refuse(self, number: int, error: IlladaError) -> None:
        sentence = f"{self.name}, line {number}: {error.sentence}"
        if self.on_error == "stop":
            hint = error.hint or "--on-error skip leaves such lines out"
            raise UsageError(sentence, hint) from None
        self.skipped += 1
        self.talk.warn(f"{sentence}; skipped")


class BeforeFault(Generic[Parsed]):
    """What arrives up to a bad line, whose error is raised when the work on all that is done."""

    def __init__(self, arriving: Iterator[Parsed]) -> None:
        self.arriving = arriving
        self.fault: UsageError | None = None

    def __iter__(self) -> Iterator[Parsed]:
        try:
            yield from self.arriving
        except UsageError as fault:
            self.fault = fault

    def raise_fault(self) -> None:
        """Raise the error of the bad line, if there was one."""
        if self.fault:
            raise self.fault


def fields_of(line: bytes) -> dict[str, Any]:
    """Read one line as a JSON object. Raises UsageError."""
    try:
        # An id comes back as it is; texts are checked where they are encoded.
        fields = decode_json(line, may_hold_halves=True)
    except ValueError as error:
        raise UsageError(f"not valid JSON ({error})") from None
    if not isinstance(fields, dict):
        raise UsageError("not a JSON object")
    return fields


def enumerate_arrived(lines: Iterator[bytes | None]) -> Iterator[tuple[int, bytes | None]]:
    """Number lines from 1; what has not arrived has no number of its own."""
    number = 1
    for line in lines:
        yield number, line
        number += line is not None


def raw_lines(source: str) -> Iterator[bytes | None]:
    """Return the lines of a file, or of standard input (`-`) with None while it is silent."""
    if source == "-":
        if stat.S_ISREG(os.fstat(0).st_mode):
            yield from sys.stdin.buffer
        else:
            yield from piped_lines()
        return
    try:
        with open(source, "rb") as file:
            yield from file
    except FileNotFoundError:
        raise UsageError(f"there is no file {source}") from None
    except IsADirectoryError:
        raise UsageError(f"{source} is a folder, not a file of JSON Lines") from None


def piped_lines() -> Iterator[bytes | None]:
    """Return the lines of standard input as they come, None whenever none is waiting.

    What is read ahead is bounded: a writer that is faster than the work has to wait.
    """
    arrived: Queue[bytes] = Queue(CHUNKS_AHEAD)

    def read() -> None:
        # Not through sys.stdin: its lock must be free when the interpreter ends.
        while chunk := os.read(0, CHUNK_BYTES):
            arrived.put(chunk)
        arrived.put(b"")

    def chunks() -> Iterator[bytes | None]:
        while True:
            try:
                chunk = arrived.get_nowait()
            except Empty:
                yield None
                continue
            if not chunk:
                return
            yield chunk

    Thread(target=read, daemon=True).start()
    return lines_of(chunks())


def lines_of(chunks: Iterator[bytes | None]) -> Iterator[bytes | None]:
    """Cut chunks at line ends, None for one that is not there yet; linear in a line's length."""
    begun: list[bytes] = []
    for chunk in chunks:
        if chunk is None:
            yield None
            continue
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    if rest := b"".join(begun):
        yield rest


def read_text(text: str | None, file: str | None) -> str:
    """Return a text from an option, a file or standard input; one last newline is dropped.

    Raises UsageError for a missing or undecodable one.
    """
    if text is not None and text != "-":
        return text
    source = file or "-"
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode("utf-8").removesuffix("\n")
    except FileNotFoundError:
        raise UsageError(f"there is no file {source}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt is not UTF-8 text (byte {error.start})") from None
