"""Text to a token dataset, resumable by shard; the same bytes however it is run (laws 1 and 2).

Documents keep the order of the sources, and a shard ends with the document that fills it: neither
workers nor chunks nor interruptions leave a trace.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from illada_core.data.build.encoding import EMPTY, Items, encode_chunks
from illada_core.data.build.events import BuildEvent, Headway, Notice, OnError, Report, leave_out
from illada_core.data.build.examples import RESPONSE_TOO_LONG, TOO_LONG
from illada_core.data.build.job import Job
from illada_core.data.build.journal import (
    FRESH_HINT,
    JOURNAL,
    Journal,
    Stage,
    clear_earlier_run,
    is_unfinished,
    read_journal,
    refuse_foreign,
)
from illada_core.data.build.series import ShardSeries
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import Chunk, chunk_of
from illada_core.data.store.dataset import (
    CUT_EXAMPLES,
    LEFT_OUT,
    MANIFEST,
    InputFile,
    Manifest,
    read_manifest_file,
    write_manifest,
)
from illada_core.data.store.shards import ShardEntry
from illada_core.errors import DataError, UsageError
from illada_core.files import sha256_of, writing_folder
from illada_core.text.tokenizer import Tokenizer
from illada_core.text.tokenizer_files import TOKENIZER_FILE, write_tokenizer_files

REWRITTEN = (
    "the chat template rewrites earlier answers once a conversation goes on: each is taken as it "
    "is printed in the end, and is part of the prompt where some of it is missing"
)
# Documents left out without a word but the count.
QUIET = (EMPTY, TOO_LONG, RESPONSE_TOO_LONG)


def tokenize_corpus(
    job: Job,
    folder: Path,
    workers: int,
    on_error: OnError = "stop",
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Write a token dataset to `folder`, or finish the one that an earlier run left there.

    Yields what happens, and a Report at the end; without one it was stopped by `should_stop`, and
    goes on from the last finished shard when it is called again. UsageError if the folder holds
    anything else, DataError at a document that cannot be used, unless `on_error` is "skip".
    """
    if (folder / MANIFEST).exists() and not is_unfinished(folder):
        yield complete_report(job, folder)
        return
    refuse_foreign(folder)
    with writing_folder(folder):
        if (folder / MANIFEST).exists():
            report: Report | None = complete_report(job, folder)
            (folder / JOURNAL).unlink(missing_ok=True)  # of a run that was killed at its very end
        else:
            report = yield from build_dataset(job, folder, workers, on_error, should_stop)
    if report:
        yield report


def build_dataset(
    job: Job, folder: Path, workers: int, on_error: OnError, should_stop: Callable[[], bool]
) -> Generator[BuildEvent, None, Report | None]:
    """Do what `tokenize_corpus` says, in a folder that nobody else writes; None if stopped."""
    vocab_size = job.tokenizer.vocab_size
    goes_on = all(map(comes_again, job.sources))
    with (
        Journal(folder, job.fingerprint, vocab_size, goes_on) as journal,
        ThreadPoolExecutor(workers, thread_name_prefix="compress") as pool,
        ShardSeries(folder, vocab_size, job.shard_tokens, journal, pool.map) as series,
    ):
        resumed_shards, unknown = len(journal.shards), 0
        yield earlier_headway(job, journal)
        key = None if job.chat else job.text_key
        chunks = corpus_chunks(job.sources, key, journal.position, job.tokenizer.cuts_cleanly)
        if not job.chat:  # rendered conversations are encoded by `tokenizers`
            chunks = put_back(check_engine(job.tokenizer, chunks), chunks)
        yield from map(Notice, job.tokenizer.files.notices)
        if job.tokenizer.fallback:
            yield Notice(f"{job.tokenizer.fallback}: using {job.tokenizer.engine}, which is slower")
        rewritten = 0
        with closing(encode_chunks(chunks, job.encode, workers)) as parts:
            for encoded in parts:
                unknown += encoded.unknown
                if should_stop():
                    return None
                if encoded.examples and encoded.examples.rewritten and not rewritten:
                    yield Notice(REWRITTEN)
                rewritten += encoded.examples.rewritten if encoded.examples else 0
                for fault in encoded.faults:
                    if fault.reason not in QUIET:
                        yield leave_out(fault, job.sources, on_error)
                series.add(encoded)
                yield Headway(encoded.source_bytes, len(encoded.ends), len(encoded.ids))
        if unknown:
            yield Notice(job.tokenizer.tell_unknown(unknown))
        stages = series.finish((len(job.sources), 0))
        report = write_dataset(job, folder, series.shards, stages, resumed_shards)
        journal.remove()
    return report


def comes_again(source: Source) -> bool:
    """Tell whether a source gives the same text once more; nothing tells that of a pipe."""
    return not source.is_stream or source.layout == "hub"


def make_room(job: Job, folder: Path, fresh: bool) -> None:
    """Remove what an earlier run left there if `fresh`, so that a dataset can be written.

    UsageError if a folder that is no dataset holds another tokenizer, which would be replaced.
    """
    if fresh:
        clear_earlier_run(folder)
        return
    is_begun = (folder / MANIFEST).exists() or (folder / JOURNAL).exists()
    kept = folder / TOKENIZER_FILE
    if not is_begun and kept.exists() and kept.read_bytes() != job.tokenizer.files.data:
        raise UsageError(f"{folder} holds another {TOKENIZER_FILE}", FRESH_HINT)


def earlier_headway(job: Job, journal: Journal) -> Headway:
    """Say how much earlier runs have done."""
    return Headway(
        sum(source.bytes for source in job.sources[: journal.position[0]]),
        sum(shard.documents for shard in journal.shards),
        sum(shard.tokens for shard in journal.shards),
    )


def check_engine(tokenizer: Tokenizer, chunks: Items[Chunk]) -> list[Chunk]:
    """Read up to the first documents; unless their ids are those of `tokenizers`, fall back."""
    read = []
    for chunk in chunks:
        texts = chunk.read()
        read.append(chunk_of(texts, chunk.source_bytes))
        if texts.texts:
            if tokenizer.disagrees(texts.texts):
                tokenizer.fall_back(f"{tokenizer.engine} gives other ids on these documents")
            break
    return read


def put_back(read: list[Chunk], chunks: Items[Chunk]) -> Items[Chunk]:
    """Yield chunks that were read already, then the others."""
    with closing(chunks):
        yield from read
        yield from chunks


def write_dataset(
    job: Job, folder: Path, shards: list[ShardEntry], stages: list[Stage], resumed_shards: int
) -> Report:
    """Make a folder of finished shards a dataset."""
    reasons = sum((Counter(stage.skipped) for stage in stages), Counter[str]())
    cut = sum(stage.cut for stage in stages)
    if not shards:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        lacking = "no document has any text" if job.chat is None else "no example is left"
        raise DataError(f"{lacking} ({why or 'no input'})")
    digests = [digest for stage in stages for digest in stage.digests]
    inputs = tuple(
        InputFile(source.name, size, sha256)
        for source, (size, sha256) in zip(job.sources, digests, strict=True)
    )
    write_tokenizer_files(job.tokenizer.files, folder)
    settings = job.settings
    if job.chat:
        settings |= {CUT_EXAMPLES: cut, LEFT_OUT: dict(sorted(reasons.items()))}
    manifest = Manifest("documents", job.tokenizer.record, inputs, settings, tuple(shards))
    fingerprint = write_manifest(folder, manifest)
    return Report(
        fingerprint=fingerprint,
        documents=sum(shard.documents for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        text_bytes=sum(stage.text_bytes for stage in stages),
        shards=len(shards),
        skipped=dict(reasons),
        resumed_shards=resumed_shards,
        was_complete=False,
        cut=cut,
    )


def count_finished_shards(job: Job, folder: Path) -> int:
    """Return how many shards earlier runs finished; UsageError if another job did."""
    if (folder / MANIFEST).exists():
        return complete_report(job, folder).shards
    return len(read_journal(folder, job.fingerprint))


def is_touched(source: Source, made_at: int) -> bool:
    """Tell whether a file was written after a moment in nanoseconds; only such are read again."""
    try:
        return not source.is_stream and os.stat(source.path).st_mtime_ns > made_at
    except OSError:
        return False  # it could not be read then either


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
        if is_touched(source, made_at) and sha256_of(Path(source.path)) != item["sha256"]:
            raise UsageError(f"{folder} was made before {source.name} changed", FRESH_HINT)
    return Report(
        fingerprint=fields["fingerprint"],
        documents=fields["documents"],
        tokens=fields["tokens"],
        text_bytes=0,
        shards=len(fields["shards"]),
        skipped=left_out,
        resumed_shards=len(fields["shards"]),
        was_complete=True,
        cut=cut,
    )
