"""Finished partitions under one manifest, and what there is to say of a dataset that is complete.

The manifest is written last: what it names was written by this run, or has been checked.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path

from illada_core.data.build.events import BuildEvent, PartDone, Report
from illada_core.data.build.job import Job
from illada_core.data.build.journal import (
    FRESH_HINT,
    Stage,
    is_complete,
    is_there,
    journal_path,
    read_journal,
    shards_of,
)
from illada_core.data.build.partitions import Partition
from illada_core.data.build.tokenizing import earlier_headway
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import open_bytes
from illada_core.data.store.frames import Mapper
from illada_core.data.store.manifest import (
    CUT_EXAMPLES,
    LEFT_OUT,
    InputFile,
    Manifest,
    read_manifest_file,
    write_manifest,
)
from illada_core.data.store.shards import ShardEntry, shard_name
from illada_core.data.store.views import MANIFEST
from illada_core.errors import DataError, UsageError
from illada_core.files import writing_file
from illada_core.text.tokenizer_files import write_tokenizer_files

NAMED = 8


def check_partitions(
    job: Job, folder: Path, over: Mapper, should_stop: Callable[[], bool]
) -> Generator[BuildEvent, None, list[Stage]]:
    """Return what all partitions hold that other runs have finished, every byte of it checked.

    Yields what is done; returns nothing if it was stopped. DataError if some are not finished,
    which it names, or a shard is not what was written; UsageError if another job wrote one.
    """
    partitions = job.partitions
    found = [read_journal(folder, partition, job.fingerprint) for partition in partitions]
    done = zip(found, partitions, strict=True)
    refuse_unfinished([is_complete(stages, partition) for stages, partition in done])
    for partition, stages in zip(partitions, found, strict=True):
        if should_stop():
            return []
        with writing_file(journal_path(folder, partition)):  # nobody is at work on it
            check_shards(job, partition, folder, shards_of(stages), over)
        yield earlier_headway(job.sources, partition, stages)
    return [stage for stages in found for stage in stages]


def refuse_unfinished(are_done: list[bool]) -> None:
    """Raise DataError that names the partitions which are not done, if there are any."""
    missing = [number for number, is_done in enumerate(are_done) if not is_done]
    if missing:
        shown = ", ".join(map(str, missing[:NAMED])) + (", …" if missing[NAMED:] else "")
        raise DataError(
            f"{len(missing)} of {len(are_done)} partitions are not finished: {shown}",
            "run the parts again that did not end well, or leave --merge away to do what is left",
        )


def check_shards(
    job: Job, partition: Partition, folder: Path, shards: list[ShardEntry], over: Mapper
) -> None:
    """Raise DataError unless the shards of a partition are what was written, byte by byte."""
    vocab_size = job.tokenizer.vocab_size

    def check(number: int) -> bool:
        path = folder / shard_name(number, vocab_size, partition.number)
        return is_there(path, shards[number], vocab_size, job.fingerprint)

    for number, is_found in enumerate(over(check, range(len(shards)))):
        if not is_found:
            raise DataError(
                f"damaged dataset: {folder / shards[number].name} is missing",
                "run its part again, or leave --merge away to do what is left",
            )


def write_dataset(job: Job, folder: Path, stages: list[Stage], resumed_shards: int) -> Report:
    """Make a folder of finished shards a dataset."""
    shards, done = shards_of(stages), totals(stages)
    if not shards:
        why = ", ".join(f"{count} {reason}" for reason, count in done.skipped.items())
        lacking = "no document has any text" if job.chat is None else "no example is left"
        raise DataError(f"{lacking} ({why or 'no input'})")
    digests = [digest for stage in stages for digest in stage.digests]
    inputs = tuple(
        InputFile(source.name, size, sha256)
        for source, (size, sha256) in zip(job.sources, digests, strict=True)
    )
    write_tokenizer_files(job.tokenizer.files, folder)
    settings, cut = job.settings, sum(stage.cut for stage in stages)
    if job.chat:
        settings |= {CUT_EXAMPLES: cut, LEFT_OUT: dict(sorted(done.skipped.items()))}
    manifest = Manifest("documents", job.tokenizer.record, inputs, settings, tuple(shards))
    fingerprint = write_manifest(folder, manifest)
    return Report(
        **vars(done),
        fingerprint=fingerprint,
        resumed_shards=resumed_shards,
        was_complete=False,
        cut=cut,
    )


def totals(stages: list[Stage]) -> PartDone:
    """Add up what stages hold."""
    shards = shards_of(stages)
    return PartDone(
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        text_bytes=sum(stage.text_bytes for stage in stages),
        shards=len(shards),
        skipped=dict(sum((Counter(stage.skipped) for stage in stages), Counter[str]())),
    )


def is_touched(source: Source, made_at: int) -> bool:
    """Tell whether a file was written after a moment in nanoseconds; only such are read again.

    One at a URL may have been, where its store does not tell.
    """
    if source.is_remote:
        return source.modified is None or source.modified * 1e9 > made_at
    try:
        return not source.is_stream and os.stat(source.path).st_mtime_ns > made_at
    except OSError:
        return False  # it could not be read then either


def source_sha256(source: Source) -> str:
    """Return the hash of a file that is not a stream, wherever it lies."""
    with open_bytes(source) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def complete_report(job: Job, folder: Path) -> Report:
    """Report on a dataset that is complete; UsageError if another job made it."""
    fields = read_manifest_file(folder)
    # The size of a hub dataset is known only when it has been read.
    unsized = {source.name for source in job.sources if source.layout == "hub"}
    sizes = ((item["name"], item["bytes"]) for item in fields.get("inputs", ()))
    made = [(name, 0 if name in unsized else size) for name, size in sizes]
    asked = [(source.name, source.bytes) for source in job.sources]
    settings = dict(fields["settings"])
    cut, left_out = settings.pop(CUT_EXAMPLES, 0), settings.pop(LEFT_OUT, {})
    wanted = (asdict(job.tokenizer.record), job.settings, asked)
    if wanted != (fields.get("tokenizer"), settings, made):
        raise UsageError(f"{folder} was made from other inputs, or with other settings", FRESH_HINT)
    made_at = (folder / MANIFEST).stat().st_mtime_ns
    for source, item in zip(job.sources, fields["inputs"], strict=True):
        if is_touched(source, made_at) and source_sha256(source) != item["sha256"]:
            raise UsageError(f"{folder} was made before {source.name} changed", FRESH_HINT)
    return Report(
        documents=fields["documents"],
        tokens=fields["tokens"],
        text_bytes=0,
        shards=len(fields["shards"]),
        skipped=left_out,
        fingerprint=fields["fingerprint"],
        resumed_shards=len(fields["shards"]),
        was_complete=True,
        cut=cut,
    )
