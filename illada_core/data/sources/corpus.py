"""A corpus: all sources in their order, as chunks of documents."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial

from illada_core.data.sources.lines import (
    line_chunks,
    read_example_line,
    read_json_line,
    read_plain_line,
)
from illada_core.data.sources.listing import Source
from illada_core.data.sources.plain import large_text, read_small_files, text_digest
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    WHOLE_BYTES,
    Chunk,
    Digest,
    Fault,
    fault_chunk,
    why,
)
from illada_core.data.sources.records import record_chunks
from illada_core.data.sources.rows import hub_records, table_records
from illada_core.data.sources.separated import separated_chunks
from illada_core.text.cutting import IsClean

CHUNK_FILES = 512
Position = tuple[int, int]  # file, record


def corpus_chunks(
    sources: Sequence[Source],
    key: str | None,
    start: Position = (0, 0),
    is_clean: IsClean | None = None,
) -> Generator[Chunk, None, None]:
    """Yield the documents of all sources from a position on; `key` names the text of a record.

    Without a key a record of several columns is a document whole, as JSON. `is_clean` says where
    giant documents may be cut; without it their ids play no role.
    """
    small: list[tuple[int, Source]] = []
    size = 0
    for number, source in enumerate(sources[start[0] :], start[0]):
        first = start[1] if number == start[0] else 0
        is_small = is_small_text(source) and not first
        if is_small:
            small.append((number, source))
            size += source.bytes
        if small and (not is_small or size >= CHUNK_BYTES or len(small) >= CHUNK_FILES):
            yield Chunk(partial(read_small_files, small), size, size)
            small, size = [], 0
        if not is_small:
            yield from source_chunks(number, source, first, key, is_clean)
    if small:
        yield Chunk(partial(read_small_files, small), size, size)


def is_small_text(source: Source) -> bool:
    """Tell whether a source is a text that a worker may read whole."""
    is_plain = source.layout == "text" and not source.compression and not source.is_stream
    return is_plain and source.bytes <= WHOLE_BYTES


def source_chunks(
    number: int, source: Source, first: int, key: str | None, is_clean: IsClean | None
) -> Iterator[Chunk]:
    """Yield the documents of one source from record `first` on; a fault if it cannot be read."""
    try:
        match source.layout:
            case "text":
                whole = partial(large_text, is_clean=is_clean)
                yield from (text_digest if first else whole)(number, source)
            case "lines":
                yield from line_chunks(number, source, first, read_plain_line)
            case "jsonl" if key is not None:
                yield from record_chunks(number, source, first, partial(read_json_line, key))
            case "chat" | "jsonl":
                yield from record_chunks(number, source, first, read_example_line)
            case "csv":
                assert key is not None
                yield from separated_chunks(number, source, first, key)
            case "parquet" | "arrow" if source.is_stream:
                fault = Fault(number, 0, "cannot be read", "a table has no place in a pipe")
                yield fault_chunk(fault, Digest(number, 0, ""))
            case "parquet" | "arrow" if key is None:
                yield from table_records(number, source, first)
            case "parquet" | "arrow":
                assert key is not None
                # Most corpora hold no tables, and pyarrow takes its time to load.
                from illada_core.data.sources.columns import column_chunks

                yield from column_chunks(number, source, first, key)
            case "hub" if key is None:
                yield from hub_records(number, source, first)
            case "hub":
                assert key is not None
                # As above; `datasets` takes a second.
                from illada_core.data.sources.hub import hub_chunks

                yield from hub_chunks(number, source, first, key)
    except OSError as error:
        fault = Fault(number, first, "cannot be read", why(error))
        yield fault_chunk(fault, Digest(number, source.bytes, ""), source.bytes)
