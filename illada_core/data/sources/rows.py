"""Rows of tables and hub datasets as lines of JSON: chat examples, which have several columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    RECORD_BYTES,
    Chunk,
    Digest,
    Fault,
    Texts,
    bad_byte,
    chunk_of,
    end_chunk,
    fault_chunk,
    local_file,
    utf8_size,
)

CHUNK_ROWS = 1024


def table_records(number: int, source: Source, first: int) -> Iterator[Chunk]:
    """Yield the rows of a Parquet or Arrow file from row `first` on, a chunk of them at a time."""
    # pyarrow takes its time to load, and belongs to columns.py.
    from illada_core.data.sources.columns import DamagedTable, file_digest, table_batches

    with local_file(source) as path:
        digest, row = file_digest(number, source, path), 0
        try:
            for batch in table_batches(source, path, CHUNK_ROWS):
                if row + len(batch) > first:
                    read = partial(read_rows, batch, number, row, first)
                    yield Chunk(read, batch.nbytes, 0)
                row += len(batch)
        except DamagedTable as error:
            yield fault_chunk(Fault(number, row, "damaged", str(error)), digest, source.bytes)
            return
        yield end_chunk(digest, source.bytes)


def read_rows(batch: Any, number: int, row: int, first: int) -> Texts:
    """Take each row of a batch that begins at `row`, from row `first` on."""
    result = Texts()
    for record in range(max(row, first), row + len(batch)):
        try:
            (fields,) = batch.slice(record - row, 1).to_pylist()
        except UnicodeDecodeError as error:  # nothing checks what a writer called a string
            fault = Fault(number, record, "not UTF-8", bad_byte(error), record + 1)
            result.faults.append(fault)
            continue
        add_record(result, fields, number, record)
    return result


def hub_records(number: int, source: Source, first: int) -> Iterator[Chunk]:
    """Yield the rows of a hub dataset, streamed; its digest is that of their JSON."""
    # `datasets` takes a second to load, and belongs to hub.py.
    from illada_core.data.sources.hub import hub_address, hub_rows

    rows: Iterable[dict[str, Any]] = hub_rows(source.path, *hub_address(source.path))
    result, size, total, sha256 = Texts(), 0, 0, hashlib.sha256()
    for record, fields in enumerate(rows):
        data = json_line(fields).encode("utf-8", "surrogatepass")
        sha256.update(len(data).to_bytes(8, "little") + data)
        size, total = size + len(data), total + len(data)
        if record >= first:
            add_record(result, fields, number, record)
        if size >= CHUNK_BYTES or len(result.texts) >= CHUNK_ROWS:
            yield chunk_of(result)
            result, size = Texts(), 0
    yield chunk_of(result)
    yield end_chunk(Digest(number, total, sha256.hexdigest()))


def add_record(result: Texts, fields: Mapping[str, Any], number: int, record: int) -> None:
    """Take one row as a line of JSON."""
    line = json_line(fields)
    try:
        size = utf8_size(line)
    except UnicodeEncodeError:
        fault = Fault(number, record, "not UTF-8", "half of a surrogate pair", record + 1)
        result.faults.append(fault)
        return
    if size > RECORD_BYTES:
        limit = f"over {RECORD_BYTES >> 20} MiB"
        result.faults.append(Fault(number, record, "too long", limit, record + 1))
    else:
        result.add(line, number, record, size)


def json_line(fields: Mapping[str, Any]) -> str:
    """Write a row as JSON, without the empty keys that every row of a table has to have."""
    return json.dumps(without_empty(fields), ensure_ascii=False, default=str)


def without_empty(value: Any) -> Any:
    """Return a value without keys that hold nothing."""
    if isinstance(value, Mapping):
        return {key: without_empty(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_empty(inner) for inner in value]
    return value
