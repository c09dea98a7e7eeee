"""How illada talks: sentences, progress and tables on stderr, never on stdout.

A live bar on a terminal, a plain line every few seconds elsewhere, nothing with --quiet.
Text that comes from data or from a model passes through `printable` and is never markup.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Protocol

from illada_core.places import with_urls

PLAIN_PROGRESS_EVERY_S = 5.0
WIDEST_BAR, NARROWEST_BAR = 30, 6  # columns; a narrower one gives its place to the note
LONGEST_TIME = len("0:00:00")
SI_UNITS = ("B", "tok")  # take prefixes; what else is counted is a noun


def is_rich_terminal(stream: IO[str]) -> bool:
    """Tell whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def has_colour(stream: IO[str]) -> bool:
    """Tell whether colour may be written to a stream (terminal, NO_COLOR unset)."""
    return is_rich_terminal(stream) and not os.environ.get("NO_COLOR")


def columns_of(stream: IO[str]) -> int | None:
    """Return how wide the terminal of a stream is; None where it is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def printable(text: str) -> str:
    """Make control characters of foreign text visible instead of active; keep newline and tab."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else f"\\x{ord(character):02x}"
        for character in text
    )


def complain(sentence: str, hint: str | None = None) -> None:
    """Write an error and its hint to stderr, whatever the verbosity."""
    print(f"illada: {printable(with_urls(sentence))}", file=sys.stderr)
    if hint:
        print(f"\nhint: {printable(with_urls(hint))}", file=sys.stderr)


def os_error_sentence(error: OSError) -> str:
    """Say what the operating system refused, and for which file."""
    reason = (error.strerror or str(error)).lower()
    return f"{reason}: {error.filename}" if error.filename else reason


class Advance(Protocol):
    """Report that `count` more units are done, with a short note to show beside the bar."""

    def __call__(self, count: float, note: str = "") -> None: ...


@dataclass
class Talk:
    """The talk of one command on stderr, at the loudness its options ask for."""

    quiet: bool = False
    verbose: bool = False
    said: set[str] = field(default_factory=set)

    def say(self, text: str) -> None:
        """Write one line, unless quiet."""
        if not self.quiet:
            print(printable(with_urls(text)), file=sys.stderr, flush=True)

    def say_once(self, text: str) -> None:
        """Write one line, the same one only once, unless quiet."""
        if text not in self.said:
            self.said.add(text)
            self.say(text)

    def detail(self, text: str) -> None:
        """Write one line with --verbose only."""
        if self.verbose:
            self.say(text)

    def warn(self, text: str, again: bool = False) -> None:
        """Write a warning, even when quiet; the same one only once, unless `again`."""
        if again or text not in self.said:
            self.said.add(text)
            print(f"illada: warning: {printable(with_urls(text))}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(
        self, title: str, total: float | None, unit: str, done: float = 0.0
    ) -> Iterator[Advance]:
        """Show how far `title` is; yields the function that counts done units of `unit`.

        A unit is one of SI_UNITS or a noun in the singular. `done` units were done before, by an
        earlier command: they do not count as speed.
        """
        if self.quiet:
            yield ignore_progress
        elif is_rich_terminal(sys.stderr):
            with live_progress(title, total, unit, done) as advance:
                yield advance
        else:
            plain = PlainProgress(title, total, unit, done)
            yield plain.advance
            plain.close()


def ignore_progress(count: float, note: str = "") -> None:
    """Count nothing: the progress of a quiet command."""


@contextmanager
def live_progress(title: str, total: float | None, unit: str, before: float) -> Iterator[Advance]:
    """Draw a live bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, no_color=not has_colour(sys.stderr))
    drawn = BarColumn()
    words = (
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[counted]}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
    )
    started = time.monotonic()
    with Progress(*words, console=console) as bar:
        task = bar.add_task(title, total=total, completed=int(before), counted="", note="")
        done = before

        def advance(count: float, note: str = "") -> None:
            nonlocal done
            done += count
            rate = (done - before) / max(time.monotonic() - started, 1e-6)
            counted = progress_words(done, total, unit, rate)
            reached = min(done, total) if total else done
            room = console.width - len(f"{title} {counted} ") - LONGEST_TIME - 1
            drawn.bar_width, shown = bar_and_note(room, printable(note))
            bar.columns = (words[0], drawn, *words[1:]) if drawn.bar_width else words
            bar.update(task, completed=reached, counted=counted, note=shown)

        yield advance


def bar_and_note(room: int, note: str) -> tuple[int, str]:
    """Share out the columns that a line has left: how wide the bar is, and what of the note fits.

    The note goes first; where no bar fits beside it, there is none (0), and its end may be lost.
    """
    from rich.cells import cell_len, set_cell_size

    bar = min(WIDEST_BAR, room - 1 - cell_len(note))
    if bar >= NARROWEST_BAR:
        return bar, note
    fits = cell_len(note) <= room
    return 0, note if fits else set_cell_size(note, max(0, room - 1)) + "…" * (room > 0)


class PlainProgress:
    """One line every few seconds, for pipes and log files."""

    def __init__(self, title: str, total: float | None, unit: str, before: float) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.before = self.done = before
        self.note = ""
        self.started = self.last_line = time.monotonic()

    def advance(self, count: float, note: str = "") -> None:
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self.last_line >= PLAIN_PROGRESS_EVERY_S:
            self.last_line = now
            self.write(now)

    def write(self, now: float) -> None:
        rate = (self.done - self.before) / max(now - self.started, 1e-6)
        line = f"{self.title}: {progress_words(self.done, self.total, self.unit, rate)}"
        line += f", {printable(self.note)}" if self.note else ""
        if self.total and rate and self.done < self.total:
            line += f", {duration((self.total - self.done) / rate)} left"
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.done != self.before:  # else there was nothing to do
            self.write(time.monotonic())


def progress_words(done: float, total: float | None, unit: str, rate: float) -> str:
    """Write how much is done, and how fast: `9 ktok of 1 Mtok, 2 ktok/s`, `2 of 9 items, …`."""
    if unit in SI_UNITS:
        share = f" of {si(total)}{unit}" if total else ""
        return f"{si(done)}{unit}{share}, {si(rate)}{unit}/s"
    of = f"{round(done):,} of " if total else ""
    return f"{of}{plural(round(total or done), unit)}, {rate:.3g} {unit}s/s"


def si(number: float) -> str:
    """Write a number with an SI prefix and three digits: 12_300 is `12.3 k`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.3g} "


def plural(number: int, noun: str) -> str:
    """Write how many there are: `1 document`, `2,000 documents`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Write a span of time in its two largest units: `2 h 5 min`."""
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds)
    for (large, size), (small, step) in pairwise(units):
        if whole >= size:
            rest = whole % size // step
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def table(rows: Sequence[tuple[str, ...]], right_align_from: int = 1) -> str:
    """Lay out rows as aligned plain text; columns from `right_align_from` on are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < right_align_from else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
