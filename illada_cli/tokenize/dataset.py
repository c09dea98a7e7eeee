"""Writing a token dataset on a terminal: which tokenizer, what happens, what came out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from illada_cli import ui
from illada_cli.signals import stop_on_signals
from illada_core.errors import UsageError

if TYPE_CHECKING:
    from illada_core.data.build.documents import Event, Job, OnError, Report
    from illada_core.data.sources.listing import Source
    from illada_core.text.tokenizer import Engine, Tokenizer

SHOWN_SKIPS = 5


def find_tokenizer(inputs: Sequence[str], given: Path | None) -> Path:
    """Return the tokenizer to use: given, else in the only input folder; UsageError without one."""
    from illada_core.text.tokenizer_files import TOKENIZER_FILE

    beside = Path(inputs[0]) / TOKENIZER_FILE
    if given or (len(inputs) == 1 and beside.exists()):
        return given or beside
    raise UsageError(
        "no tokenizer: give one with --tokenizer",
        f"train one with: illada tokenize {inputs[0]} --train-vocab 32768 -o {TOKENIZER_FILE}",
    )


def no_input(*paths: Path | None) -> set[Path]:
    """Return what is no input even where it lies among the inputs: tokenizers and the output."""
    from illada_core.text.tokenizer_files import COMPANIONS

    named = [path.resolve() for path in paths if path is not None]
    beside = [path.parent / name for path in named for name in COMPANIONS]
    return {*named, *beside}


def open_tokenizer(
    path: Path, engine: Engine, eos: str | None = None, mask: str | None = None
) -> Tokenizer:
    """Load a tokenizer; `eos` and `mask` name control tokens its files do not name."""
    from illada_core.text.tokenizer import Tokenizer
    from illada_core.text.tokenizer_files import read_tokenizer_files, with_eos, with_mask

    files = read_tokenizer_files(path)
    files = with_eos(files, eos) if eos else files
    return Tokenizer(with_mask(files, mask) if mask else files, engine)


def worker_count(asked: int | None) -> int:
    """Return how many threads encode: as asked, else one for each core this process may use."""
    return asked or len(os.sched_getaffinity(0))


def total_bytes(sources: Sequence[Source]) -> int | None:
    """Return the bytes of all sources on disk, None if a stream is among them."""
    if any(source.is_stream for source in sources):
        return None
    return sum(source.bytes for source in sources)


def write_tokens(job: Job, output: Path, workers: int, on_error: OnError, talk: ui.Talk) -> Report:
    """Write a token dataset, and stop in good order when a signal asks."""
    from illada_core.data.build.documents import Report, tokenize_corpus

    report = None
    with (
        stop_on_signals("dropping the shard at hand, finished ones are kept") as stop,
        closing(tokenize_corpus(job, output, workers, on_error, stop.requested)) as events,
        talk.progress("tokenize", total_bytes(job.sources), "B") as advance,
    ):
        tell = show(advance, talk)
        for event in events:
            if isinstance(event, Report):
                report = event
            else:
                tell(event)
    if report is None:
        stop.leave(f"{output} is not finished", "run the same command again to go on")
    assert report
    return report


def show(advance: ui.Advance, talk: ui.Talk) -> Callable[[Event], None]:
    """Return what shows events: progress on the bar, the first documents left out, notices."""
    from illada_core.data.build.documents import Notice, Progress, Skipped

    skips = tokens = 0

    def tell(event: Event) -> None:
        nonlocal skips, tokens
        match event:
            case Progress():
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

    return tell


def summary(report: Report, seconds: float) -> list[str]:
    """Describe a finished dataset in lines for people."""
    facts = f"{counted(report.documents, 'document')}, {report.tokens:,} tokens"
    if report.was_complete:
        return [f"complete already: {facts}"]
    size, bytes_a_token = ui.si(report.text_bytes), report.text_bytes / report.tokens
    lines = [f"{facts}, {size}B of text, {bytes_a_token:.2f} bytes a token"]
    if report.resumed_shards:
        done, shards = report.resumed_shards, report.shards
        lines.append(f"{done} of {shards} shards were finished by an earlier run")
    else:
        lines.append(f"{seconds:.1f} s, {ui.si(report.text_bytes / seconds)}B/s")
    if report.skipped:
        lines.append(left_out(report, "document"))
    return lines


def left_out(report: Report, noun: str) -> str:
    """Say how many documents were left out, and why."""
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(report.skipped.items()))
    return f"left out: {counted(sum(report.skipped.values()), noun)} ({reasons})"


def counted(number: int, noun: str) -> str:
    """Write how many there are: `1 document`, `2 documents`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
