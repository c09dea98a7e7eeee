"""Tables whose rows are documents: Parquet and Arrow files. The one owner of pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow
import pyarrow.parquet

from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    RECORD_BYTES,
    Chunk,
    Digest,
    Fault,
    Texts,
    bad_byte,
    end_chunk,
    fault_chunk,
    local_file,
    missing_column,
    utf8_size,
)
from illada_core.errors import first_line
from illada_core.files import sha256_of

CHUNK_ROWS = 4096
BROKEN = (pyarrow.ArrowException, UnicodeDecodeError)  # also names of columns are foreign bytes
LARGE_BINARY = pyarrow.large_binary()


def column_chunks(number: int, source: Source, first: int, key: str) -> Iterator[Chunk]:
    """Yield the chunks of a column of a table, from row `first` on."""
    chunks = parquet_chunks if source.layout == "parquet" else arrow_chunks
    with local_file(source) as path:
        digest = file_digest(number, source, path)
        yield from chunks(number, source, path, digest, first, key)


def parquet_chunks(
    number: int, source: Source, path: str, digest: Digest, first: int, key: str
) -> Iterator[Chunk]:
    """Yield the chunks of a Parquet file, from row `first` on."""
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            if key not in file.schema_arrow.names:
                yield fault_chunk(missing_column(number, key, file.schema_arrow.names), digest)
                return
            for group in range(file.num_row_groups):
                meta = file.metadata.row_group(group)
                if row + meta.num_rows <= first:
                    row += meta.num_rows
                    continue
                rows = chunk_rows(meta.num_rows, meta.total_byte_size)
                for batch in file.iter_batches(rows, row_groups=[group], columns=[key]):
                    yield column_chunk(checked(batch).column(0), number, row, first)
                    row += len(batch)
    except BROKEN as error:
        yield fault_chunk(Fault(number, row, "damaged", first_line(error)), digest, source.bytes)
        return
    yield end_chunk(digest, source.bytes)


def arrow_chunks(
    number: int, source: Source, path: str, digest: Digest, first: int, key: str
) -> Iterator[Chunk]:
    """Yield the chunks of an Arrow file, of the streaming or the random-access kind."""
    row = 0
    try:
        with pyarrow.memory_map(path) as file:
            for batch in record_batches(file):
                if key not in batch.schema.names:
                    yield fault_chunk(missing_column(number, key, batch.schema.names), digest)
                    return
                column = batch.column(key)
                rows = chunk_rows(len(column), column.nbytes)
                for start in range(0, len(column), rows):
                    yield column_chunk(column.slice(start, rows), number, row + start, first)
                row += len(column)
    except BROKEN as error:
        yield fault_chunk(Fault(number, row, "damaged", first_line(error)), digest, source.bytes)
        return
    yield end_chunk(digest, source.bytes)


class DamagedTable(Exception):
    """A table that cannot be read on; the text says why."""


def table_batches(source: Source, path: str, rows: int) -> Iterator[pyarrow.RecordBatch]:
    """Yield all columns of the table in a file, at most so many rows at a time.

    Raises DamagedTable.
    """
    try:
        if source.layout == "parquet":
            with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
                yield from map(checked, file.iter_batches(rows))
            return
        with pyarrow.memory_map(path) as file:
            for batch in record_batches(file):
                for start in range(0, len(batch), rows):
                    yield batch.slice(start, rows)
    except BROKEN as error:
        raise DamagedTable(first_line(error)) from None


def record_batches(file: pyarrow.MemoryMappedFile) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of an Arrow file of either kind."""
    try:
        stream = pyarrow.ipc.open_stream(file)
    except pyarrow.ArrowInvalid:
        file.seek(0)
        table = pyarrow.ipc.open_file(file)
        batches = (table.get_batch(number) for number in range(table.num_record_batches))
        yield from map(checked, batches)
        return
    yield from map(checked, stream)


def checked(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """Return a batch whose offsets all lie in its buffers: nothing else looks at what a file says.

    Raises ArrowInvalid. Strings that are not UTF-8 pass: each of them becomes a fault.
    """
    for column in batch.columns:
        is_text = pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)
        as_bytes = pyarrow.binary() if pyarrow.types.is_string(column.type) else LARGE_BINARY
        (column.view(as_bytes) if is_text else column).validate(full=True)
    return batch


def chunk_rows(rows: int, size: int) -> int:
    """Return how many rows of a table of `size` bytes make a chunk."""
    return max(min(rows * CHUNK_BYTES // max(size, 1), CHUNK_ROWS), 1)


def column_chunk(column: pyarrow.Array, number: int, row: int, first: int) -> Chunk:
    """Return a chunk of the values of a column that begins at `row`, from row `first` on."""
    column = column.slice(max(first - row, 0))
    return Chunk(partial(read_column, column, number, max(row, first)), column.nbytes, 0)


def read_column(column: pyarrow.Array, number: int, row: int) -> Texts:
    """Take each value of a column as a document."""
    result = Texts()
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:  # nothing checks what the writer of a file called a string
        read_broken_column(result, column, number, row)
        return result
    for record, value in enumerate(values, row):
        add_value(result, value, number, record)
    return result


def read_broken_column(result: Texts, column: pyarrow.Array, number: int, row: int) -> None:
    """Take the values of a column one by one, those that are not UTF-8 as faults."""
    for record, value in enumerate(column, row):
        try:
            add_value(result, value.as_py(), number, record)
        except UnicodeDecodeError as error:
            fault = Fault(number, record, "not UTF-8", bad_byte(error), record + 1)
            result.faults.append(fault)


def add_value(result: Texts, value: Any, number: int, record: int) -> None:
    """Take one value as a document, if it is a string."""
    fault = partial(Fault, number, record, line=record + 1)
    if value is None:
        result.faults.append(fault("no text", "the value is null"))
    elif not isinstance(value, str):
        result.faults.append(fault("no text", f"the value is {type(value).__name__}, not text"))
    elif len(value) > RECORD_BYTES:
        result.faults.append(fault("too long", f"over {RECORD_BYTES >> 20} MiB"))
    else:
        try:
            result.add(value, number, record, utf8_size(value))
        except UnicodeEncodeError:
            result.faults.append(fault("not UTF-8", "half of a surrogate pair"))


def file_digest(number: int, source: Source, path: str) -> Digest:
    """Hash the whole file of a source."""
    return Digest(number, source.bytes, sha256_of(path))
