"""A corpus on a terminal, for the verbs that turn text into tokens (`tokenize`, `pack`).

Which tokenizer is meant and what lies among the inputs without being one; how many threads work;
what is shown while a dataset is written; and facts as a table.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from textwrap import wrap
from types import ModuleType
from typing import Any, TypeAlias

from illada_cli import ui
from illada_cli.signals import stop_on_signals
from illada_core.data.build import delivering, documents
from illada_core.data.build.documents import own_partitions
from illada_core.data.build.events import (
    BuildEvent,
    Headway,
    Notice,
    OnError,
    PartDone,
    Report,
    Skipped,
)
from illada_core.data.build.job import Job
from illada_core.data.build.partitions import bytes_of
from illada_core.data.portion import Portion
from illada_core.data.sources.listing import Source
from illada_core.data.store.views import pull
from illada_core.errors import UsageError
from illada_core.places import path_of, told, url_of
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE

SHOWN_SKIPS = 5
STOP_PROMISE = "dropping the shard at hand, finished ones are kept"
GO_ON_HINT = "run the same command again to go on"
MERGE_HINT = "when all parts are done, the same command with --merge ends the work"
Events: TypeAlias = Generator[BuildEvent, None, None]


def find_tokenizer(inputs: Sequence[str], given: Path | None) -> Path:
    """Return the tokenizer to use: given, else in the only input folder; UsageError without one."""
    beside = path_of(inputs[0]) / TOKENIZER_FILE
    file = given or (beside if len(inputs) == 1 else None)
    if file is not None:
        pull(file.parent if file.suffix == ".json" else file)
        if given or file.exists():
            return file
    raise UsageError(
        "no tokenizer: give one with --tokenizer",
        f"train one with: illada tokenize {inputs[0]} --train-vocab 32768 -o {TOKENIZER_FILE}",
    )


def no_input(*paths: Path | None) -> set[Path]:
    """Return what is no input even where it lies among the inputs: tokenizers and the output."""
    given = [path for path in paths if path is not None]
    named = [path if url_of(path) else path.resolve() for path in given]
    beside = [path.parent / name for path in named for name in COMPANIONS]
    return {*named, *beside}


def worker_count(asked: int | None) -> int:
    """Return how many threads work: as asked, else one for each core this process may use."""
    return asked or len(os.sched_getaffinity(0))


def total_bytes(sources: Sequence[Source]) -> int | None:
    """Return the bytes of all sources on disk, None if a stream is among them."""
    if any(source.is_stream for source in sources):
        return None
    return sum(source.bytes for source in sources)


def portion_of(part: str | None, merge: bool, fresh: bool, executor: str) -> Portion | None:
    """Return which part of the work is asked for, None for all; UsageError for contradictions."""
    if executor != "local" and (part or merge):
        raise UsageError(
            f"--executor {executor} does all parts and merges them",
            f"leave {'--part' if part else '--merge'} away",
        )
    if part and merge:
        raise UsageError("--part does a part of the work, and --merge ends it", "give one of them")
    if fresh and (part or merge):
        raise UsageError(
            f"{'--part' if part else '--merge'} never replaces what other parts have written",
            "delete the folder first, or name another with -o",
        )
    return Portion.parse(part) if part else None


def build_for(output: Path) -> ModuleType:
    """Return what makes a dataset there: in a folder, or at a URL."""
    return delivering if url_of(output) else documents


def write_tokens(job: Job, output: Path, workers: int, on_error: OnError, talk: ui.Talk) -> Report:
    """Write a token dataset, and stop in good order when a signal asks."""

    def work(should_stop: Callable[[], bool]) -> Events:
        return build_for(output).tokenize_corpus(job, output, workers, on_error, should_stop)

    report = follow(work, "tokenize", total_bytes(job.sources), output, talk)
    assert isinstance(report, Report)
    return report


def write_part(
    job: Job, portion: Portion, output: Path, workers: int, on_error: OnError, talk: ui.Talk
) -> PartDone | Report:
    """Write a part of a token dataset; a report of all if that is complete already."""

    def work(should_stop: Callable[[], bool]) -> Events:
        return build_for(output).tokenize_part(job, portion, output, workers, on_error, should_stop)

    own = own_partitions(job, portion)
    size = sum(bytes_of(job.sources, partition) for partition in own)
    return follow(work, f"part {portion}", size, output, talk)


def merge_tokens(job: Job, output: Path, workers: int, talk: ui.Talk) -> Report:
    """Make what all parts have written a dataset."""

    def work(should_stop: Callable[[], bool]) -> Events:
        return build_for(output).merge_parts(job, output, workers, should_stop)

    report = follow(work, "check", total_bytes(job.sources), output, talk)
    assert isinstance(report, Report)
    return report


def follow(
    work: Callable[[Callable[[], bool]], Events],
    title: str,
    total: int | None,
    output: Path,
    talk: ui.Talk,
) -> PartDone | Report:
    """Show what happens and return what it ends with; stop in good order when a signal asks."""
    report = None
    with (
        stop_on_signals(STOP_PROMISE) as stop,
        closing(work(stop.requested)) as events,
        talk.progress(title, total, "B") as advance,
    ):
        show = event_viewer(advance, talk)
        for event in events:
            if isinstance(event, PartDone | Report):
                report = event
            else:
                show(event)
    if report is None:
        stop.leave(f"{told(output)} is not finished", GO_ON_HINT)
    assert report
    return report


def event_viewer(advance: ui.Advance, talk: ui.Talk) -> Callable[[BuildEvent], None]:
    """Return what shows events: progress on the bar, the first documents left out, notices."""
    skips = tokens = 0

    def show(event: BuildEvent) -> None:
        nonlocal skips, tokens
        match event:
            case Headway():
                tokens += event.tokens
                advance(event.source_bytes, f"{ui.si(tokens)}tok" if tokens else "")
            case Notice():
                talk.say(event.text)
            case Skipped():
                skips += 1
                if skips <= SHOWN_SKIPS or talk.verbose:
                    talk.say(f"left out: {event.text}")
                elif skips == SHOWN_SKIPS + 1:
                    talk.say("left out: more (-v shows all)")

    return show


def name_skipped(report: PartDone | Report, noun: str) -> str:
    """Say how many documents were left out, and why."""
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(report.skipped.items()))
    return f"left out: {ui.plural(sum(report.skipped.values()), noun)} ({reasons})"


def show_facts(
    facts: dict[str, Any], as_json: bool, title: str = "", subject: dict[str, str] | None = None
) -> None:
    """Print facts as JSON, after what they are about, or as a table below a title."""
    if as_json:
        print(json.dumps({**(subject or {}), **facts}))
    else:
        columns = ui.columns_of(sys.stdout)
        print(ui.printable("\n".join(filter(None, (title, facts_table(facts, columns))))))


def facts_table(facts: dict[str, Any], columns: int | None = None) -> str:
    """Lay out facts as a name and a value; a value that `columns` cannot hold goes on below."""
    names = [f"  {name.replace('_', ' ')}" for name in facts]
    room = columns - max(map(len, names), default=0) - 2 if columns else sys.maxsize
    rows = []
    for name, (key, value) in zip(names, facts.items(), strict=True):
        text = fact_text(key, value)
        first, *more = lines_of(text, room)
        rows += [(name, first), *(("", line) for line in more)]
    return ui.table(rows, right_align_from=2)


def lines_of(text: str, room: int) -> list[str]:
    """Break a text between words, where it is too long for the room that it has."""
    if len(text) <= room:
        return [text]
    return wrap(text, max(room, 1), break_long_words=False, break_on_hyphens=False)


def fact_text(name: str, value: Any) -> str:
    """Write one value for a person: thousands apart, shares in per cent, tables in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {fact_text(key, inner)}" for key, inner in value.items()) or "none"
    if name.endswith("share"):
        return f"{value:.4%}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)
