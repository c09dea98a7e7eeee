"""One shard of tokens: writing it, recognising it when it is finished, reading it back.

A shard is a file of independent zstd frames of FRAME_TOKENS tokens, then a skippable frame with
the index (where documents, segments and rows end, and where each document came from), then the
standard seek table: any zstd tool inflates it to a flat array. docs/formats.md is the
specification; what a folder of shards means together is the business of dataset.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from illada_core.arrays import Counts
from illada_core.data.store.frames import (
    FRAME_TOKENS,
    SEEK_TABLE_FOOTER,
    SHARD_VERSION,
    FrameSizes,
    Ids,
    IndexHeader,
    Mapper,
    Stored,
    compress_tokens,
    inflate,
    narrow,
    pack_index,
    pack_seek_table,
    seek_table_bytes,
    token_bytes_of,
    unpack_index,
    unpack_seek_table,
)
from illada_core.data.store.index import ShardIndex, index_of
from illada_core.decoding import Count
from illada_core.errors import DataError, UsageError
from illada_core.files import naming_file, partial_path, publish, sha256_of

SHARD_NAME = re.compile(r"shard-((?P<partition>\d{6,})-\d{4,}|\d{6,})\.u(16|24)\.zst")
COMPRESSED_AHEAD = 4  # calls whose frames may still be in the hands of `over`
DAMAGED_HINT = "restore the file from a copy, or make the dataset again with --fresh"


@dataclass(frozen=True)
class ShardEntry:
    """What a manifest says of one shard; `bytes` and `sha256` are those of the whole file."""

    name: str
    tokens: Count
    documents: Count
    segments: Count
    rows: Count
    bytes: Count
    sha256: str


@dataclass(frozen=True, eq=False)
class RowChunk:
    """Some rows of a shard: their tokens in stored form, and three partitions of these tokens.

    `files`, `records` and `offsets` say where each piece of a document came from.
    """

    stored: Stored
    row_lengths: Counts
    segment_lengths: Counts
    document_lengths: Counts
    files: Counts
    records: Counts
    offsets: Counts


def shard_name(number: int, vocab_size: int, partition: int | None = None) -> str:
    """Return a shard's file name; without its `.zst` it names the flat array inside.

    `number` counts the shards of a dataset, or those of a partition of its sources.
    """
    place = f"{number:06d}" if partition is None else f"{partition:06d}-{number:04d}"
    return f"shard-{place}.u{8 * token_bytes_of(vocab_size)}.zst"


def first_misnamed(names: Iterable[str], vocab_size: int) -> str | None:
    """Return the first name that a shard cannot have in its place, None if there is none.

    Shards are numbered from 0 without gaps, in a dataset or in each of its partitions, which rise.
    So none can be there twice, and none lies elsewhere.
    """
    partition, number = -1, 0
    for name in names:
        found = SHARD_NAME.fullmatch(name)
        given = int(found["partition"]) if found and found["partition"] else -1
        if given > partition:
            partition, number = given, 0
        wanted = shard_name(number, vocab_size, None if given < 0 else given)
        if name != wanted or given < partition:
            return name
        number += 1
    return None


class TokenShardWriter:
    """Write one shard under a temporary name; it gets its own name when it is complete.

    `job` is the fingerprint of the settings, by which a later run knows its own shards. Memory
    stays at what one call adds and the index, however long a document is. A context manager:
    leaving it without `close` leaves no file behind. `over` maps the compressor over frames: with
    the map of a pool of threads the same bytes come sooner.
    """

    def __init__(self, path: Path, vocab_size: int, job: str, over: Mapper = map) -> None:
        self.path, self.job, self.over = path, job, over
        self.vocab_size, self.token_bytes = vocab_size, token_bytes_of(vocab_size)
        self.tokens = 0
        self._arrays: dict[str, list[NDArray[Any]]] = {}
        self._open_tokens = 0
        self._open_hash = hashlib.sha256()
        self._pending: list[Stored] = []
        self._pending_bytes = 0
        self._compressing: deque[Iterator[tuple[memoryview, bytes]]] = deque()
        self._frame_sizes: FrameSizes = []
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._file = open(partial_path(path), "wb")  # noqa: SIM115 (see close and abandon)

    def add_documents(self, ids: Ids, ends: Counts, files: Counts, records: Counts) -> None:
        """Append documents: `ids` end to end, where each ends in `ids`, and where it came from.

        Ids after the last end begin a document that a later call ends: so a document of any size
        can be written in parts.
        """
        assert len(ends) == len(files) == len(records)
        assert len(ids) == 0 or int(ids.max()) < self.vocab_size, "an id outside the vocabulary"
        stored = narrow(ids, self.token_bytes)
        self._append("document_lengths", np.diff(ends, prepend=-self._open_tokens))
        self._append("document_files", files)
        self._append("document_records", records)
        self._append("document_hashes", self._hash_documents(stored, ends))
        self._open_tokens = len(ids) - int(ends[-1]) if len(ends) else self._open_tokens + len(ids)
        self._append_tokens(stored)

    def add_rows(self, rows: RowChunk) -> None:
        """Append whole rows of tokens."""
        assert len(rows.document_lengths) == len(rows.files) == len(rows.records)
        assert len(rows.document_lengths) == len(rows.offsets)
        for lengths in (rows.row_lengths, rows.segment_lengths, rows.document_lengths):
            assert int(lengths.sum()) * self.token_bytes == len(rows.stored)
        self._append("row_lengths", rows.row_lengths)
        self._append("segment_lengths", rows.segment_lengths)
        self._append("document_lengths", rows.document_lengths)
        self._append("document_files", rows.files)
        self._append("document_records", rows.records)
        self._append("document_offsets", rows.offsets)
        self._append_tokens(rows.stored)

    def add_spans(self, lengths: Counts, turns: NDArray[Any]) -> None:
        """Append the turns of tokens just added, as spans; a shard has them for all or for none."""
        assert len(lengths) == len(turns)
        self._append("span_lengths", lengths)
        self._append("span_turns", turns)

    def close(self) -> ShardEntry:
        """Write the index and the seek table, make the file durable and give it its name."""
        entry = self.seal()
        self.publish()
        return entry

    def publish(self) -> None:
        """Make a sealed file durable and give it its name."""
        publish(self._file, self.path)

    def seal(self) -> ShardEntry:
        """Write the index and the seek table; what the file holds is known now."""
        assert self._open_tokens == 0, "the last document has no end"
        arrays = {name: np.concatenate(parts) for name, parts in self._arrays.items()}
        lengths = [array for name, array in arrays.items() if name.endswith("_lengths")]
        assert all((array > 0).all() for array in lengths), "an empty document, segment or row"
        self._write_frames(last=True)
        header = {
            "version": SHARD_VERSION,
            "job": self.job,
            "tokens": self.tokens,
            "token_bytes": self.token_bytes,
        }
        index = pack_index(header, arrays)
        self._write(index)
        self._write(pack_seek_table([*self._frame_sizes, (len(index), 0)]))
        return ShardEntry(
            name=self.path.name,
            tokens=self.tokens,
            documents=len(arrays.get("document_lengths", ())),
            segments=len(arrays.get("segment_lengths", ())),
            rows=len(arrays.get("row_lengths", ())),
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
        )

    def abandon(self) -> None:
        """Drop the unfinished file."""
        with suppress(OSError):  # closing flushes, which fails again on a full disk
            self._file.close()
        partial_path(self.path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None or not self._file.closed:
            self.abandon()

    def _append(self, name: str, values: NDArray[Any]) -> None:
        self._arrays.setdefault(name, []).append(values.astype("<u8"))

    def _hash_documents(self, stored: Stored, ends: Counts) -> NDArray[np.uint64]:
        """Return 64 bits of the sha256 over the stored tokens of each document that ends here."""
        view, start, digests = stored.data, 0, []
        for end in (ends * self.token_bytes).tolist():
            self._open_hash.update(view[start:end])
            digests.append(self._open_hash.digest()[:8])
            self._open_hash, start = hashlib.sha256(), end
        self._open_hash.update(view[start:])
        return np.frombuffer(b"".join(digests), "<u8")

    def _append_tokens(self, stored: Stored) -> None:
        self.tokens += len(stored) // self.token_bytes
        self._pending.append(stored)
        self._pending_bytes += len(stored)
        self._write_frames(last=False)

    def _write_frames(self, last: bool) -> None:
        """Compress every full frame that is pending, write what is ready, with `last` the rest."""
        size = FRAME_TOKENS * self.token_bytes
        if self._pending_bytes >= size or (self._pending_bytes and last):
            pending = np.concatenate(self._pending)
            stop = len(pending) if last else len(pending) // size * size
            parts = [pending[start : start + size].data for start in range(0, stop, size)]
            self._compressing.append(
                zip(
                    parts, self.over(partial(compress_tokens, self.token_bytes), parts), strict=True
                )
            )
            self._pending = [pending[stop:].copy()]
            self._pending_bytes = len(pending) - stop
        while len(self._compressing) > (0 if last else COMPRESSED_AHEAD):
            for part, frame in self._compressing.popleft():
                self._write(frame)
                self._frame_sizes.append((len(frame), len(part)))

    def _write(self, data: bytes) -> None:
        with naming_file(self.path):
            self._file.write(data)
        self._sha256.update(data)
        self._bytes += len(data)


class ShardReader:
    """Read one shard by frame. Every damage is a DataError that names the shard and the frame.

    Opening reads the seek table alone. Reads keep no position, so threads may share a reader.
    """

    def __init__(self, path: Path, token_bytes: int) -> None:
        self.path, self.token_bytes = path, token_bytes
        self._descriptor = os.open(path, os.O_RDONLY)
        self.close = weakref.finalize(self, os.close, self._descriptor)
        *data_sizes, index_size = self._read_seek_table()
        self._sizes = data_sizes
        self._offsets = list(accumulate([size for size, _ in data_sizes], initial=0))
        self._index_bytes = index_size[0]
        self.tokens = sum(size for _, size in data_sizes) // token_bytes
        self.frames = len(data_sizes)
        full = FRAME_TOKENS * token_bytes
        if any(size != full for _, size in data_sizes[:-1]) or self.tokens > self.frames * full:
            raise self._damage("its frames are not of the right size")

    @cached_property
    def index(self) -> ShardIndex:
        """The boundaries and sources of the whole shard."""
        return self._read_index()[1]

    @cached_property
    def job(self) -> str:
        """The fingerprint of the settings the shard was made with."""
        return self._read_index()[0].job

    def stored(self, frame: int) -> Stored:
        """Return the tokens of one frame as they are stored."""
        compressed, inflated = self._sizes[frame]
        try:
            data = inflate(self._pread(compressed, self._offsets[frame]), inflated, inflated)
        except DataError as error:
            raise self._damage(error.sentence, f"frame {frame}") from error
        return np.frombuffer(data, np.uint8)

    def _read_seek_table(self) -> FrameSizes:
        file_bytes = os.fstat(self._descriptor).st_size
        try:
            if file_bytes < SEEK_TABLE_FOOTER.size:
                raise DataError("it is too short for a shard")
            footer = self._pread(SEEK_TABLE_FOOTER.size, file_bytes - SEEK_TABLE_FOOTER.size)
            table_bytes = seek_table_bytes(footer)
            if table_bytes > file_bytes:
                raise DataError("its seek table is longer than the file")
            table = self._pread(table_bytes, file_bytes - table_bytes)
            return unpack_seek_table(table, file_bytes)
        except DataError as error:
            raise self._damage(error.sentence) from error

    def _read_index(self) -> tuple[IndexHeader, ShardIndex]:
        try:
            index = self._pread(self._index_bytes, self._offsets[-1])
            header, arrays = unpack_index(index, self.tokens)
            if (header.tokens, header.token_bytes) != (self.tokens, self.token_bytes):
                raise DataError("it does not fit the tokens")
            return header, index_of(arrays, self.tokens)
        except DataError as error:
            raise self._damage(error.sentence, "index") from error

    def _pread(self, count: int, offset: int) -> bytes:
        with naming_file(self.path):
            data = os.pread(self._descriptor, count, offset)
        if len(data) != count:
            raise DataError("the file ends before it")
        return data

    def _damage(self, reason: str, part: str = "") -> DataError:
        where = f"{self.path}, {part}" if part else str(self.path)
        return DataError(f"damaged shard: {where}: {reason}", DAMAGED_HINT)


def finished_shard(path: Path, vocab_size: int, job: str) -> ShardEntry | None:
    """Return the entry of a shard that an earlier run of this job finished, None if there is none.

    UsageError if the shard belongs to another job, DataError if it is damaged.
    """
    if not path.exists():
        return None
    reader = ShardReader(path, token_bytes_of(vocab_size))
    if reader.job != job:
        raise UsageError(
            f"{path.parent} was made with other settings",
            "use --fresh to replace it, or another folder with -o",
        )
    index = reader.index
    return ShardEntry(
        name=path.name,
        tokens=reader.tokens,
        documents=len(index.document_ends),
        segments=len(index.segment_ends),
        rows=len(index.row_ends),
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )
