"""Writing a token dataset on a terminal: its folder is the answer, what came out is talk."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from illada_cli import ui
from illada_cli.corpus import (
    MERGE_HINT,
    build_for,
    merge_tokens,
    name_skipped,
    worker_count,
    write_part,
    write_tokens,
)
from illada_cli.executor import Steps, run_parts
from illada_cli.tokenize.options import TokenizeOptions
from illada_core.data.build.documents import refuse_pipes
from illada_core.data.build.events import Report
from illada_core.data.build.job import Job
from illada_core.data.portion import Portion
from illada_core.places import told


def make_dataset(job: Job, folder: Path, asked: TokenizeOptions) -> None:
    """Write the dataset, or merge its parts; its folder is the answer, what is in it is talk."""
    build_for(folder).make_room(job, folder, asked.fresh)
    finish_dataset(job, folder, asked, asked.merge)


def make_on_cluster(job: Job, folder: Path, steps: Steps, asked: TokenizeOptions) -> None:
    """Let a cluster write all parts of the dataset, each by `steps`, and merge them."""
    build_for(folder).make_room(job, folder, asked.fresh)
    refuse_pipes(job)
    size = sum(source.bytes for source in job.sources)
    run_parts(steps, asked, folder, len(job.partitions), size, "B")
    finish_dataset(job, folder, asked, merge=True)


def finish_dataset(job: Job, folder: Path, asked: TokenizeOptions, merge: bool) -> None:
    """Write what is missing of a dataset, or merge its parts, and tell what is in it."""
    workers = worker_count(asked.workers)
    asked.talk.detail(f"encoding with {job.tokenizer.engine}, {ui.plural(workers, 'thread')}")
    started = time.monotonic()
    if merge:
        report = merge_tokens(job, folder, workers, asked.talk)
    else:
        report = write_tokens(job, folder, workers, asked.on_error, asked.talk)
    seconds = time.monotonic() - started
    for line in summary(report, seconds):
        asked.talk.say(line)
    described = {"output": told(folder), **asdict(report), "seconds": round(seconds, 3)}
    print(json.dumps(described) if asked.as_json else ui.printable(told(folder)))


def make_part(job: Job, portion: Portion, folder: Path, asked: TokenizeOptions) -> None:
    """Write a part of the dataset; the folder is no dataset until all parts are merged."""
    build_for(folder).make_room(job, folder, fresh=False)
    done = write_part(job, portion, folder, worker_count(asked.workers), asked.on_error, asked.talk)
    if isinstance(done, Report):
        asked.talk.say(summary(done, 0)[0])
    else:
        facts = f"{ui.plural(done.documents, 'document')}, {ui.plural(done.tokens, 'token')}"
        asked.talk.say(f"part {portion}: {facts} in {ui.plural(done.shards, 'shard')}")
        if done.skipped:
            asked.talk.say(name_skipped(done, "document"))
        asked.talk.say(MERGE_HINT)
    described = {"output": told(folder), "part": str(portion), **asdict(done)}
    print(json.dumps(described) if asked.as_json else ui.printable(told(folder)))


def summary(report: Report, seconds: float) -> list[str]:
    """Describe a finished dataset in lines for people."""
    facts = f"{ui.plural(report.documents, 'document')}, {ui.plural(report.tokens, 'token')}"
    if report.was_complete:
        return [f"complete already: {facts}"]
    size, bytes_a_token = ui.si(report.text_bytes), report.text_bytes / report.tokens
    lines = [f"{facts}, {size}B of text, {bytes_a_token:.2f} bytes a token"]
    if report.resumed_shards:
        done, shards = report.resumed_shards, report.shards
        lines.append(f"{ui.plural(shards, 'shard')}, {done:,} of them finished by an earlier run")
    else:
        lines.append(f"{seconds:.1f} s, {ui.si(report.text_bytes / seconds)}B/s")
    if report.skipped:
        lines.append(name_skipped(report, "document"))
    return lines
