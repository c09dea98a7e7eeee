"""A token dataset: a folder of shards under one manifest, read by token position or by row.

Nothing without a manifest is a dataset. docs/formats.md is the specification.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from illada_core.arrays import Counts, Ids
from illada_core.data.store.frames import FRAME_TOKENS, token_bytes_of, widen
from illada_core.data.store.index import ShardIndex
from illada_core.data.store.manifest import (
    CHAT,
    TRAIN,
    VALIDATION,
    Manifest,
    parts_of,
    read_manifest,
    read_manifest_file,
)
from illada_core.data.store.shards import DAMAGED_HINT, SHARD_NAME, ShardReader
from illada_core.data.store.turns import Turns, turns_between
from illada_core.data.store.views import MANIFEST, copy_of, sizes_at
from illada_core.errors import DataError
from illada_core.files import PARTIAL, partial_path
from illada_core.places import url_of
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE

CACHED_FRAMES = 64  # 32 MiB of ids
CACHED_SHARDS = 16


@dataclass(frozen=True)
class Row:
    """One packed row: its ids, and where its segments end, counted from its first token.

    In a chat dataset it has the turn of each token, else None.
    """

    ids: Ids
    segment_ends: Counts
    turns: Turns | None


class TokenDataset:
    """Read a dataset by token position or by row; small caches make neighbours cheap.

    Damage found while reading is a DataError that names the shard and the frame. Threads may share
    a dataset. Shards at a URL are fetched when they are needed, or `anew` if they are here already.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, fingerprint: str, anew: bool = False
    ) -> None:
        self.folder, self.manifest, self.fingerprint = folder, manifest, fingerprint
        self.url, self.anew = url_of(folder), anew
        shards = manifest.shards
        self.tokens = sum(shard.tokens for shard in shards)
        self.documents = sum(shard.documents for shard in shards)
        self.rows = sum(shard.rows for shard in shards)
        self.vocab_size = manifest.tokenizer.vocab_size
        self.token_bytes = token_bytes_of(self.vocab_size)
        self.token_starts = np.cumsum([0, *(shard.tokens for shard in shards)])
        self.row_starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self.shard = lru_cache(CACHED_SHARDS)(self._open_shard)
        self._frame = lru_cache(CACHED_FRAMES)(self._read_frame)

    def read(self, start: int, stop: int) -> Ids:
        """Return the ids at positions start to stop of all tokens, as uint32."""
        assert 0 <= start <= stop <= self.tokens
        parts = []
        while start < stop:
            number = int(np.searchsorted(self.token_starts, start, "right")) - 1
            first = int(self.token_starts[number])
            shard_stop = min(stop, int(self.token_starts[number + 1]))
            parts.append(self._read_within(number, start - first, shard_stop - first))
            start = shard_stop
        return np.concatenate(parts) if parts else np.empty(0, np.uint32)

    def row(self, number: int) -> Row:
        """Return one row of a packed dataset."""
        assert 0 <= number < self.rows
        shard = int(np.searchsorted(self.row_starts, number, "right")) - 1
        index = self.shard(shard).index
        within = number - int(self.row_starts[shard])
        start = int(index.row_ends[within - 1]) if within else 0
        stop = int(index.row_ends[within])
        first, last = np.searchsorted(index.segment_ends, (start, stop), "right")
        return Row(
            ids=self._read_within(shard, start, stop),
            segment_ends=index.segment_ends[first:last] - start,
            turns=turns_between(index, start, stop) if self.has_turns else None,
        )

    @property
    def has_turns(self) -> bool:
        """Tell whether this is a chat dataset: one that knows whose turn each token is."""
        return self.manifest.settings.get(CHAT) is True

    @property
    def row_lengths(self) -> Counts:
        """The lengths of all rows (8 bytes a row)."""
        lengths = [np.diff(index.row_ends, prepend=0) for index in self.indexes()]
        return np.concatenate(lengths) if lengths else np.empty(0, np.int64)

    def indexes(self) -> Iterator[ShardIndex]:
        """Yield the index of every shard, in order."""
        for number in range(len(self.manifest.shards)):
            yield self.shard(number).index

    def document_ends(self) -> Iterator[Counts]:
        """Yield where the documents of each shard end, counted from the dataset's first token."""
        for start, index in zip(self.token_starts, self.indexes(), strict=False):
            yield index.document_ends + start

    def _read_within(self, shard: int, start: int, stop: int) -> Ids:
        frames = range(start // FRAME_TOKENS, -(-stop // FRAME_TOKENS))
        first = frames.start * FRAME_TOKENS
        if len(frames) == 1:
            return self._frame(shard, frames.start)[start - first : stop - first]
        ids = np.concatenate([self._frame(shard, frame) for frame in frames])
        return ids[start - first : stop - first]

    def _read_frame(self, shard: int, frame: int) -> Ids:
        reader = self.shard(shard)
        ids = widen(reader.stored(frame), self.token_bytes)
        if (largest := int(ids.max(initial=0))) >= self.vocab_size:
            what = f"id {largest} in a vocabulary of {self.vocab_size}"
            raise DataError(f"damaged shard: {reader.path}, frame {frame}: {what}", DAMAGED_HINT)
        ids.flags.writeable = False  # it is shared by the cache
        return ids

    def _open_shard(self, number: int) -> ShardReader:
        entry = self.manifest.shards[number]
        if self.url is None:
            reader = ShardReader(self.folder / entry.name, self.token_bytes)
        else:
            with copy_of(f"{self.url}/{entry.name}", entry, self.anew) as path:
                reader = ShardReader(path, self.token_bytes)
        index = reader.index
        found = (reader.tokens, len(index.document_ends), len(index.row_ends))
        promised = (entry.tokens, entry.documents, entry.rows)
        if found != promised or bool(len(index.span_ends)) != (self.has_turns and entry.tokens > 0):
            raise DataError(f"damaged dataset: {reader.path} and {MANIFEST} disagree", DAMAGED_HINT)
        longest = int(np.diff(index.row_ends, prepend=0).max(initial=0))
        if longest > self.manifest.settings.get("sequence_length", longest):
            what = f"index: a row of {longest} tokens"
            raise DataError(f"damaged shard: {reader.path}, {what}", DAMAGED_HINT)
        return reader


def open_dataset(folder: Path, anew: bool = False) -> TokenDataset:
    """Open a dataset; DataError if there is none, or what there is cannot be used.

    `anew` takes no copy for what lies at a URL.
    """
    manifest, fingerprint = read_manifest(folder)
    at_url = sizes_at(folder)
    for shard in manifest.shards:
        path = folder / shard.name
        size = at_url.get(shard.name) if at_url is not None else size_of(path)
        if size is None:
            raise DataError(f"damaged dataset: {path} is missing", DAMAGED_HINT)
        if size != shard.bytes:
            raise DataError(
                f"damaged dataset: {path} has {size} bytes where {MANIFEST} promises {shard.bytes}",
                DAMAGED_HINT,
            )
    return TokenDataset(folder, manifest, fingerprint, anew)


def size_of(path: Path) -> int | None:
    """Return the size of a file, None if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def open_parts(folder: Path, anew: bool = False) -> dict[str, TokenDataset]:
    """Open the parts of a packed dataset by their names, or a single dataset by its kind.

    `anew` takes no copy for what lies at a URL.
    """
    fields = read_manifest_file(folder)
    if fields.get("kind") != "parts":
        dataset = open_dataset(folder, anew)
        return {dataset.manifest.kind: dataset}
    named = parts_of(folder, fields)
    parts = {part: open_dataset(folder / part, anew) for part in named}
    for part, dataset in parts.items():
        if dataset.manifest.kind != "rows":
            raise DataError(f"damaged dataset: {folder / part} holds no rows", DAMAGED_HINT)
        if dataset.fingerprint != named[part]:
            raise DataError(
                f"damaged dataset: {folder / part} is not the one that {folder / MANIFEST} names",
                DAMAGED_HINT,
            )
    return parts


def open_packed(folder: Path) -> tuple[TokenDataset, TokenDataset | None]:
    """Open the training rows and, if there are any, the validation rows of a packed dataset.

    Also takes a single dataset of rows, which then has no validation part.
    """
    parts = open_parts(folder)
    if "documents" in parts:
        raise DataError(f"{folder} is not packed", f"pack it: illada pack {folder}")
    return parts.get(TRAIN) or parts["rows"], parts.get(VALIDATION)


def clear_dataset(folder: Path, journals: Collection[str] = ()) -> None:
    """Remove a dataset, or what an interrupted run left of one, by the names that it has.

    `journals` are the files that an unfinished one is known by; they go last.
    """
    written = (MANIFEST, TOKENIZER_FILE, *COMPANIONS, *journals)
    names = {partial_path(Path(name)).name for name in written}
    # First, so that no manifest is left which names shards that are gone.
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in names or SHARD_NAME.fullmatch(path.name.removesuffix(PARTIAL)):
            path.unlink()
    for name in journals:
        (folder / name).unlink(missing_ok=True)
