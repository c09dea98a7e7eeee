"""One partition of a job to shards, resumable by shard; the same bytes however it is run.

Documents keep the order of the sources, and a shard ends with the document that fills it: neither
workers nor chunks nor interruptions leave a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from illada_core.data.build.encoding import EMPTY, Items, encode_chunks
from illada_core.data.build.events import BuildEvent, Headway, Notice, OnError, leave_out
from illada_core.data.build.examples import RESPONSE_TOO_LONG, TOO_LONG
from illada_core.data.build.job import Job
from illada_core.data.build.journal import Journal, Stage, journal_path, shards_of
from illada_core.data.build.partitions import Partition
from illada_core.data.build.series import ShardSeries
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import Chunk, chunk_of
from illada_core.files import writing_file
from illada_core.text.tokenizer import Tokenizer

REWRITTEN = (
    "the chat template rewrites earlier answers once a conversation goes on: each is taken as it "
    "is printed in the end, and is part of the prompt where some of it is missing"
)
# Documents left out without a word but the count.
QUIET = (EMPTY, TOO_LONG, RESPONSE_TOO_LONG)


def tokenize_partition(
    job: Job,
    partition: Partition,
    folder: Path,
    workers: int,
    on_error: OnError,
    should_stop: Callable[[], bool],
) -> Generator[BuildEvent, None, tuple[list[Stage], int] | None]:
    """Write the shards of a partition, or finish those that an earlier run began.

    Yields what happens; returns what the shards hold, and how many an earlier run had finished;
    None if it was stopped. DataError if another run is at work on it.
    """
    vocab_size = job.tokenizer.vocab_size
    goes_on = all(map(comes_again, job.sources[partition.first : partition.stop]))
    with (
        writing_file(journal_path(folder, partition)),
        Journal(folder, partition, job.fingerprint, vocab_size, goes_on) as journal,
    ):
        earlier = len(journal.shards)
        yield earlier_headway(job.sources, partition, journal.stages)
        if not journal.is_complete:
            with (
                ThreadPoolExecutor(workers, thread_name_prefix="compress") as pool,
                ShardSeries(job.shard_tokens, journal, pool.map) as series,
            ):
                rest = job.sources[: partition.stop], journal.position
                done = yield from tokenize_rest(job, *rest, series, workers, on_error, should_stop)
                if not done:
                    return None
                series.finish((partition.stop, 0))
        return journal.stages, earlier


def tokenize_rest(
    job: Job,
    sources: Sequence[Source],
    position: tuple[int, int],
    series: ShardSeries,
    workers: int,
    on_error: OnError,
    should_stop: Callable[[], bool],
) -> Generator[BuildEvent, None, bool]:
    """Write the documents of sources from a position on; return whether that was all."""
    key = None if job.chat else job.text_key
    chunks = corpus_chunks(sources, key, position, job.tokenizer.cuts_cleanly)
    if not job.chat:  # rendered conversations are encoded by `tokenizers`
        chunks = put_back(check_engine(job.tokenizer, chunks), chunks)
    yield from map(Notice, job.tokenizer.files.notices)
    if job.tokenizer.fallback:
        yield Notice(f"{job.tokenizer.fallback}: using {job.tokenizer.engine}, which is slower")
    unknown = rewritten = 0
    with closing(encode_chunks(chunks, job.encode, workers)) as parts:
        for encoded in parts:
            unknown += encoded.unknown
            if should_stop():
                return False
            if encoded.examples and encoded.examples.rewritten and not rewritten:
                yield Notice(REWRITTEN)
            rewritten += encoded.examples.rewritten if encoded.examples else 0
            for fault in encoded.faults:
                if fault.reason not in QUIET:
                    yield leave_out(fault, sources, on_error)
            series.add(encoded)
            yield Headway(encoded.source_bytes, len(encoded.ends), len(encoded.ids))
    if unknown:
        yield Notice(job.tokenizer.tell_unknown(unknown))
    return True


def comes_again(source: Source) -> bool:
    """Tell whether a source gives the same text once more; nothing tells that of a pipe."""
    return not source.is_stream or source.layout == "hub"


def earlier_headway(
    sources: Sequence[Source], partition: Partition, stages: list[Stage]
) -> Headway:
    """Say how much of a partition earlier runs have done."""
    upto = stages[-1].position[0] if stages else partition.first
    shards = shards_of(stages)
    return Headway(
        sum(source.bytes for source in sources[partition.first : upto]),
        sum(shard.documents for shard in shards),
        sum(shard.tokens for shard in shards),
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
