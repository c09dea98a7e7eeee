"""Tables whose rows are documents: Parquet and Arrow files, and hub datasets read as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from illada_core.data.sources.listing import HUB_PREFIX, Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    RECORD_BYTES,
    Chunk,
    Digest,
    Fault,
    Texts,
    already_read,
    bad_byte,
    ended,
    failed,
    utf8_size,
)
from illada_core.errors import DataError, UsageError
from illada_core.files import sha256_of

if TYPE_CHECKING:
    import pyarrow

CHUNK_ROWS = 4096
DEFAULT_SPLIT = "train"


def parquet_chunks(number: int, source: Source, first: int, key: str) -> Iterator[Chunk]:
    """Yield the chunks of a Parquet file, from row `first` on."""
    import pyarrow
    import pyarrow.parquet

    digest = file_digest(number, source)
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(source.path, memory_map=True) as file:
            if key not in file.schema_arrow.names:
                yield failed(missing_column(number, key, file.schema_arrow.names), digest)
                return
            for group in range(file.num_row_groups):
                meta = file.metadata.row_group(group)
                if row + meta.num_rows <= first:
                    row += meta.num_rows
                    continue
                rows = chunk_rows(meta.num_rows, meta.total_byte_size)
                for batch in file.iter_batches(rows, row_groups=[group], columns=[key]):
                    yield column_chunk(batch.column(0), number, row, first)
                    row += len(batch)
    except pyarrow.ArrowException as error:
        yield failed(Fault(number, row, "damaged", first_line(error)), digest, source.bytes)
        return
    yield ended(digest, source.bytes)


def arrow_chunks(number: int, source: Source, first: int, key: str) -> Iterator[Chunk]:
    """Yield the chunks of an Arrow file, of the streaming or the random-access kind."""
    import pyarrow

    digest = file_digest(number, source)
    row = 0
    try:
        with pyarrow.memory_map(source.path) as file:
            for batch in record_batches(file):
                if key not in batch.schema.names:
                    yield failed(missing_column(number, key, batch.schema.names), digest)
                    return
                column = batch.column(key)
                rows = chunk_rows(len(column), column.nbytes)
                for start in range(0, len(column), rows):
                    yield column_chunk(column.slice(start, rows), number, row + start, first)
                row += len(column)
    except pyarrow.ArrowException as error:
        yield failed(Fault(number, row, "damaged", first_line(error)), digest, source.bytes)
        return
    yield ended(digest, source.bytes)


def record_batches(file: pyarrow.MemoryMappedFile) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of an Arrow file of either kind."""
    import pyarrow

    try:
        stream = pyarrow.ipc.open_stream(file)
    except pyarrow.ArrowInvalid:
        file.seek(0)
        table = pyarrow.ipc.open_file(file)
        yield from (table.get_batch(number) for number in range(table.num_record_batches))
        return
    yield from stream


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


def missing_column(number: int, key: str, names: list[str]) -> Fault:
    """Say that a table has no such column, and which it has."""
    return Fault(number, 0, f'no column "{key}"', f"there are: {', '.join(names)}")


def file_digest(number: int, source: Source) -> Digest:
    """Hash a whole file."""
    return Digest(number, source.bytes, sha256_of(source.path))


def hub_chunks(number: int, source: Source, first: int, key: str) -> Iterator[Chunk]:
    """Yield the chunks of a hub dataset, streamed; its digest is that of its texts."""
    name, config, split = hub_address(source.path)
    rows = hub_rows(source.path, name, config, split)
    result, size, row = Texts(), 0, 0
    total, sha256 = 0, hashlib.sha256()
    for row, value in enumerate(rows):
        if key not in value:
            raise DataError(
                f'{source.path} has no column "{key}"',
                f"name one of these with --text-key: {', '.join(value)}",
            )
        text = value[key]
        if isinstance(text, str):
            data = text.encode("utf-8", "surrogatepass")
            sha256.update(len(data).to_bytes(8, "little") + data)
            size, total = size + len(data), total + len(data)
        if row >= first:
            add_value(result, text, number, row)
        if size >= CHUNK_BYTES or len(result.texts) >= CHUNK_ROWS:
            yield already_read(result)
            result, size = Texts(), 0
    yield already_read(result)
    yield ended(Digest(number, total, sha256.hexdigest()))


def hub_address(path: str) -> tuple[str, str | None, str]:
    """Take `hf:NAME[/CONFIG]#SPLIT` apart; NAME is `owner/dataset`, or a local folder.

    UsageError if that is not what it is.
    """
    address, _, split = path.removeprefix(HUB_PREFIX).partition("#")
    if address.startswith(("/", "./", "../")):
        return address, None, split or DEFAULT_SPLIT
    parts = address.split("/")
    if not all(parts) or len(parts) > 3:
        raise UsageError(
            f"{path} names no hub dataset", "write hf:OWNER/DATASET[/CONFIG]#SPLIT".lower()
        )
    config = parts[2] if len(parts) == 3 else None
    return "/".join(parts[:2]), config, split or DEFAULT_SPLIT


def hub_rows(path: str, name: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset as they arrive; DataError if it cannot be had."""
    import datasets

    datasets.disable_progress_bars()
    try:
        yield from datasets.load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot read {path}: {first_line(error)}",
            "without network, download the dataset elsewhere and name its files",
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of a library's message."""
    return (str(error) or type(error).__name__).splitlines()[0]
