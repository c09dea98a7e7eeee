"""Writing a packed dataset: the rows of `train` and `validation`, shard by shard.

A shard is a pure function of the source, the settings and its number: what an interrupted run has
finished is kept, and the rest comes out as if there had been no interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from illada_core.data.pack.gather import load_pieces, piece_turns
from illada_core.data.pack.order import Sizes
from illada_core.data.pack.plan import (
    SIZES,
    PackSettings,
    PartPlan,
    ShardRows,
    plan_parts,
    row_maker,
)
from illada_core.data.store.dataset import TokenDataset, clear_dataset
from illada_core.data.store.frames import Mapper
from illada_core.data.store.manifest import (
    CHAT,
    CUT_EXAMPLES,
    LEFT_OUT,
    TRAIN,
    VALIDATION,
    Manifest,
    fingerprint_of,
    has_foreign_manifest,
    read_manifest_file,
    write_manifest,
    write_manifest_file,
)
from illada_core.data.store.shards import (
    RowChunk,
    ShardEntry,
    TokenShardWriter,
    finished_shard,
    shard_name,
)
from illada_core.data.store.turns import spans_of
from illada_core.data.store.views import MANIFEST
from illada_core.errors import UsageError
from illada_core.files import (
    LOCK,
    is_being_written,
    make_folder,
    sha256_of,
    writing_file,
    writing_folder,
)
from illada_core.text.tokenizer_files import TOKENIZER_FILE, copy_tokenizer

PACKING_VERSION = 1  # goes up when the same settings would give other bytes
CHUNK_TOKENS = 2**22


def pack(
    source: TokenDataset,
    folder: Path,
    settings: PackSettings,
    over: Mapper = map,
    tokenizer: Path | None = None,
    sizes: Sizes = SIZES,
) -> Generator[int, None, None]:
    """Pack a dataset of documents into a folder; yield counts of tokens as they are written.

    Closing the iterator drops the shard at hand and keeps the finished ones. UsageError if the
    folder holds the work of other settings, DataError if another run is at work in it. `over` maps
    a function over frames: with the map of a pool of threads the same bytes come sooner.
    `tokenizer` is the tokenizer.json that made the documents, if it does not lie beside them; it
    is copied, so that a model can be saved with it.
    """
    plans = plan_parts(source, settings, sizes)
    if is_finished(source, folder, settings, sizes):
        return
    file = matching_tokenizer(source, tokenizer)
    described = describe_settings(source, settings, sizes)
    parts = {}
    with writing_folder(folder):
        for plan in plans:
            part_folder = folder / plan.part.name
            make_folder(part_folder)
            parts[plan.part.name] = yield from write_part(plan, part_folder, described, over)
        if file is not None:
            copy_tokenizer(file, folder)
        write_manifest_file(folder, {"kind": "parts", "parts": parts, "settings": described})


def matching_tokenizer(source: TokenDataset, given: Path | None) -> Path | None:
    """Return the tokenizer.json that made a dataset: that given, or the one beside it, or None.

    UsageError if another one is given.
    """
    wanted = source.manifest.tokenizer.sha256
    file = given or source.folder / TOKENIZER_FILE
    file = file / TOKENIZER_FILE if file.is_dir() else file
    if (given or file.is_file()) and sha256_of(file) == wanted:
        return file
    if given:
        raise UsageError(f"{file} is not the tokenizer that made {source.folder}")
    return None


def write_part(
    plan: PartPlan, folder: Path, described: dict[str, Any], over: Mapper
) -> Generator[int, None, str]:
    """Write the shards and the manifest of one part, yield tokens, return the fingerprint."""
    described = {**described, "part": plan.part.name}
    if has_manifest_of(folder, described):
        return read_manifest_file(folder)["fingerprint"]
    job = fingerprint_of(described)
    make_rows = row_maker(plan)
    entries = []
    for number in range(plan.windows.count):
        path = folder / shard_name(number, plan.source.vocab_size)
        entries.append((yield from finish_shard(plan, make_rows, number, path, job, over)))
    return write_manifest(folder, rows_manifest(plan, described, entries))


def rows_manifest(
    plan: PartPlan, described: dict[str, Any], entries: Sequence[ShardEntry]
) -> Manifest:
    """Return the manifest of one part, whose settings are `described`."""
    return Manifest(
        kind="rows",
        tokenizer=plan.source.manifest.tokenizer,
        inputs=plan.source.manifest.inputs,
        settings={**described, "part": plan.part.name},
        shards=tuple(entries),
    )


def finish_shard(
    plan: PartPlan,
    make_rows: Callable[[int], ShardRows],
    number: int,
    path: Path,
    job: str,
    over: Mapper,
) -> Generator[int, None, ShardEntry]:
    """Write a shard that nobody else writes, unless it is there; yield counts of tokens."""
    with writing_file(path):
        entry = finished_shard(path, plan.source.vocab_size, job)
        if entry is not None:
            yield entry.tokens
            return entry
        return (yield from write_shard(plan, make_rows(number), path, job, over))


def write_shard(
    plan: PartPlan, rows: ShardRows, path: Path, job: str, over: Mapper
) -> Generator[int, None, ShardEntry]:
    """Write the rows of one window, a chunk at a time; yield counts of tokens."""
    buffer, starts = load_pieces(plan.source, rows.pieces, over)
    width, view = plan.source.token_bytes, buffer.data
    row_lengths = np.diff(np.cumsum(rows.pieces["length"])[rows.row_ends - 1], prepend=0)
    chunk_rows = max(1, CHUNK_TOKENS // plan.settings.sequence_length)
    with TokenShardWriter(path, plan.source.vocab_size, job, over) as writer:
        for first_row in range(0, len(rows.row_ends), chunk_rows):
            row_ends = rows.row_ends[first_row : first_row + chunk_rows]
            chunk = slice(rows.row_ends[first_row - 1] if first_row else 0, row_ends[-1])
            pieces = rows.pieces[chunk]
            lengths = row_lengths[first_row : first_row + chunk_rows]
            by_document = plan.settings.segments == "document"
            begins = starts[chunk] * width
            ends = begins + pieces["length"] * width
            parts = [view[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
            writer.add_rows(
                RowChunk(
                    stored=np.frombuffer(b"".join(parts), np.uint8),
                    row_lengths=lengths,
                    segment_lengths=pieces["length"] if by_document else lengths,
                    document_lengths=pieces["length"],
                    files=pieces["file"],
                    records=pieces["record"],
                    offsets=pieces["offset"],
                )
            )
            if plan.source.has_turns:
                turns = piece_turns(plan.source, pieces)
                writer.add_spans(*spans_of(turns, np.cumsum(pieces["length"])))
            yield int(lengths.sum())
        return writer.close()


def describe_settings(source: TokenDataset, settings: PackSettings, sizes: Sizes) -> dict[str, Any]:
    """Return the settings as a manifest holds them: all that the rows depend on.

    Rows of chat examples also tell what became of the examples before.
    """
    made = source.manifest.settings if source.has_turns else {}
    return {
        "packing": PACKING_VERSION,
        "source": source.fingerprint,
        **asdict(settings),
        **asdict(sizes),
        **{name: made[name] for name in (CHAT, CUT_EXAMPLES, LEFT_OUT) if name in made},
    }


def is_finished(
    source: TokenDataset, folder: Path, settings: PackSettings, sizes: Sizes = SIZES
) -> bool:
    """Tell whether a folder holds these rows, and no more; UsageError if it holds others."""
    is_packed = has_manifest_of(folder, describe_settings(source, settings, sizes))
    return is_packed and not is_being_written(folder)


def has_manifest_of(folder: Path, described: dict[str, Any]) -> bool:
    """Tell whether a folder has a manifest with these settings; UsageError if with others."""
    if not (folder / MANIFEST).exists():
        return False
    found = read_manifest_file(folder)["settings"]
    names = [name for name in described if found.get(name) != described[name]]
    if names:
        other = ", ".join(
            f"{name} {found.get(name)} instead of {described[name]}" for name in names
        )
        raise UsageError(
            f"{folder} was made with other settings: {other}",
            "use --fresh to replace it, or another folder with -o",
        )
    return True


def clear_packed(folder: Path) -> None:
    """Remove a packed dataset, or what an interrupted run left of one, and nothing else.

    UsageError if it is something else, DataError if a run is at work in it.
    """
    parts = (folder, folder / TRAIN, folder / VALIDATION)
    locks = [lock for part in parts for lock in part.glob(f".shard-*{LOCK}")]
    if any(folder.glob("shard-*")) or any(map(has_foreign_manifest, parts)):
        raise UsageError(f"{folder} is not a packed dataset", "name another folder with -o")
    if not folder.exists():
        return
    with writing_folder(folder):
        for lock in locks:  # a part of it may be at work
            with writing_file(lock.with_name(lock.name.removeprefix(".").removesuffix(LOCK))):
                pass
        for part in parts:
            clear_dataset(part)
