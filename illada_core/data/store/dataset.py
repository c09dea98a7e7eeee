"""A token dataset: a folder of shards under one manifest, read by token position or by row.

The manifest is written last and atomically, so nothing without a manifest is a dataset. It holds
no times and no absolute paths: the same text, tokenizer and settings give the same bytes.
docs/formats.md is the specification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from illada_core.arrays import Counts, Ids
from illada_core.data.store.frames import FRAME_TOKENS, token_bytes_of, widen
from illada_core.data.store.index import ShardIndex
from illada_core.data.store.shards import (
    DAMAGED_HINT,
    SHARD_NAME,
    ShardEntry,
    ShardReader,
    first_misnamed,
)
from illada_core.data.store.turns import Turns, turns_between
from illada_core.data.store.views import MANIFEST, copy_of, pull, sizes_at
from illada_core.decoding import Count, shaped
from illada_core.errors import DataError
from illada_core.files import PARTIAL, decoding, partial_path, read_json, write_file
from illada_core.places import url_of
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE, TokenizerRecord

FORMAT = "illada-dataset"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, FORMAT_VERSION)  # in 1 the shards of documents are numbered through
TRAIN, VALIDATION = "train", "validation"
# Settings of a chat dataset that tell what became of the examples; CHAT marks it as one.
CHAT, CUT_EXAMPLES, LEFT_OUT = "chat", "cut_examples", "left_out"
CACHED_FRAMES = 64  # 32 MiB of ids
CACHED_SHARDS = 16


Kind = Literal["documents", "rows"]


@dataclass(frozen=True)
class InputFile:
    """One input: its name as the user would know it, never an absolute path."""

    name: str
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a dataset is made of. `kind` is "documents" or "rows".

    The file numbers in the shards' indexes count the `inputs`; `settings` is plain JSON.
    """

    kind: Kind
    tokenizer: TokenizerRecord
    inputs: tuple[InputFile, ...]
    settings: dict[str, Any]
    shards: tuple[ShardEntry, ...]


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


def fingerprint_of(value: object) -> str:
    """Return the sha256 of a value's canonical JSON: the name of a job or of a manifest."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Make a folder of finished shards a dataset, and return its fingerprint."""
    totals = {
        part: sum(getattr(shard, part) for shard in manifest.shards)
        for part in ("tokens", "documents", "segments", "rows")
    }
    fields = {
        "kind": manifest.kind,
        **totals,
        "tokenizer": asdict(manifest.tokenizer),
        "settings": manifest.settings,
        "shards": [vars(shard) for shard in manifest.shards],
        "inputs": [vars(item) for item in manifest.inputs],
    }
    return write_manifest_file(folder, fields)


def write_manifest_file(folder: Path, fields: dict[str, Any]) -> str:
    """Write manifest.json atomically, with the format's version and a fingerprint over all."""
    described = {"format": FORMAT, "version": FORMAT_VERSION, **fields}
    fingerprint = fingerprint_of(described)
    text = json_text({**described, "fingerprint": fingerprint})
    write_file(folder / MANIFEST, text.encode())
    return fingerprint


def json_text(fields: dict[str, Any]) -> str:
    """Write JSON for people and diffs: a line for each key, and for each item of a list.

    Twenty times faster than an indented dump, which matters for lists of a million inputs.
    """
    line = json.JSONEncoder(ensure_ascii=False).encode

    def block(value: Any) -> str:
        if not isinstance(value, list) or not value:
            return line(value)
        return "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"

    return "{\n " + ",\n ".join(f"{line(k)}: {block(v)}" for k, v in fields.items()) + "\n}\n"


def open_dataset(folder: Path, anew: bool = False) -> TokenDataset:
    """Open a dataset; DataError if there is none, or what there is cannot be used.

    `anew` takes no copy for what lies at a URL.
    """
    fields = read_manifest_file(folder)
    if fields.get("kind") == "parts":
        parts = " and ".join(str(folder / part) for part in parts_of(folder, fields))
        raise DataError(f"{folder} is a folder of datasets", f"name one of them: {parts}")
    with decoding(folder / MANIFEST, hint=DAMAGED_HINT, fault="lacks what a manifest says"):
        manifest = manifest_of(fields)
    names = [shard.name for shard in manifest.shards]
    wrong = first_misnamed(names, manifest.tokenizer.vocab_size)
    if wrong is not None:
        raise DataError(f"{folder / MANIFEST} names {wrong!r} as a shard", DAMAGED_HINT)
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
    return TokenDataset(folder, manifest, fields["fingerprint"], anew)


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


def parts_of(folder: Path, fields: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprint of each part that a manifest names. Raises DataError."""
    with decoding(folder / MANIFEST, hint=DAMAGED_HINT, fault="names parts that there are not"):
        parts: dict[str, str] = shaped(fields.get("parts"), dict[str, str], "parts")
        if TRAIN not in parts or parts.keys() - {TRAIN, VALIDATION}:
            raise ValueError(f"{', '.join(parts) or 'none'}")
    return parts


def open_packed(folder: Path) -> tuple[TokenDataset, TokenDataset | None]:
    """Open the training rows and, if there are any, the validation rows of a packed dataset.

    Also takes a single dataset of rows, which then has no validation part.
    """
    parts = open_parts(folder)
    if "documents" in parts:
        raise DataError(f"{folder} is not packed", f"pack it: illada pack {folder}")
    return parts.get(TRAIN) or parts["rows"], parts.get(VALIDATION)


def read_manifest_file(folder: Path) -> dict[str, Any]:
    """Return the fields of manifest.json, its format, version and fingerprint checked."""
    pull(folder)
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(f"no dataset at {folder}: there is no {MANIFEST}", missing_hint(folder))
    fields = read_json(path, hint=DAMAGED_HINT)
    if fields.get("format") != FORMAT:
        raise DataError(f"{path} is not the manifest of a dataset")
    if fields.get("version") not in READABLE_VERSIONS:
        raise DataError(
            f"{folder} has format version {fields.get('version')}, "
            f"and this illada reads {' and '.join(map(str, READABLE_VERSIONS))}",
            "make the dataset again, or use the version of illada that made it",
        )
    described = {name: value for name, value in fields.items() if name != "fingerprint"}
    if fields.get("fingerprint") != fingerprint_of(described):
        raise DataError(f"{path} was changed: its fingerprint is wrong", DAMAGED_HINT)
    return fields


def missing_hint(folder: Path) -> str:
    """Say what may have happened to a folder without a manifest."""
    if any(folder.glob("shard-*")):
        return "an earlier run was interrupted: run the same command again to finish it"
    return "illada tokenize and illada pack make datasets"


def is_token_dataset(folder: Path) -> bool:
    """Tell whether a folder is a dataset, or what is left of one, and not a folder of text."""
    pull(folder)
    if any(folder.glob("shard-*.zst*")):
        return True
    try:
        return bool(read_json(folder / MANIFEST).get("format") == FORMAT)
    except (OSError, DataError):
        return False


def manifest_of(fields: dict[str, Any]) -> Manifest:
    """Build a Manifest from the JSON fields that are not of the file but of the dataset.

    Raises ValueError for any other shape, and for what contradicts itself.
    """
    names = [item.name for item in dataclass_fields(Manifest)]
    manifest = shaped({name: fields[name] for name in names if name in fields}, Manifest)
    size = manifest.tokenizer.vocab_size
    for name, number in vars(manifest.tokenizer.special).items():
        if number is not None and not 0 <= number < size:
            raise ValueError(f"{name} is {number} in a vocabulary of {size}")
    for part in ("tokens", "documents", "segments", "rows"):
        total = sum(vars(shard)[part] for shard in manifest.shards)
        if fields.get(part) != total:
            said = fields.get(part)
            raise ValueError(f"{said} {part} are said to be, and the shards hold {total}")
    return manifest


def has_foreign_manifest(folder: Path) -> bool:
    """Tell whether a folder has a manifest.json that no dataset of ours has."""
    try:
        return (folder / MANIFEST).exists() and read_json(folder / MANIFEST).get("format") != FORMAT
    except DataError:
        return True


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
