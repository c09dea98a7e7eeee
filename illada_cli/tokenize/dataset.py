"""Writing a token dataset on a terminal: its folder is the answer, what came out is talk."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from illada_cli import ui
from illada_cli.corpus import name_skipped, worker_count, write_tokens
from illada_cli.tokenize.options import TokenizeOptions
from illada_core.data.build.documents import make_room
from illada_core.data.build.events import Report
from illada_core.data.build.job import Job


def make_dataset(job: Job, folder: Path, asked: TokenizeOptions) -> None:
    """Write the dataset; its folder is the answer, what is in it is talk."""
    make_room(job, folder, asked.fresh)
    workers = worker_count(asked.workers)
    asked.talk.detail(f"encoding with {job.tokenizer.engine}, {workers} threads")
    started = time.monotonic()
    report = write_tokens(job, folder, workers, asked.on_error, asked.talk)
    seconds = time.monotonic() - started
    for line in summary(report, seconds):
        asked.talk.say(line)
    described = {"output": str(folder), **asdict(report), "seconds": round(seconds, 3)}
    print(json.dumps(described) if asked.as_json else ui.printable(str(folder)))


def summary(report: Report, seconds: float) -> list[str]:
    """Describe a finished dataset in lines for people."""
    facts = f"{ui.plural(report.documents, 'document')}, {report.tokens:,} tokens"
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
        lines.append(name_skipped(report, "document"))
    return lines
