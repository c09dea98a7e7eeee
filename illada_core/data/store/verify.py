"""Check a dataset byte by byte, and describe it: what `illada pack --verify` and `--stats` do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from illada_core.arrays import Counts
from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.frames import FRAME_TOKENS, Mapper, widen
from illada_core.data.store.index import ShardIndex
from illada_core.data.store.manifest import CUT_EXAMPLES, LEFT_OUT
from illada_core.data.store.shards import DAMAGED_HINT, ShardReader
from illada_core.data.store.views import MANIFEST
from illada_core.decoding import Count, shaped
from illada_core.errors import DataError
from illada_core.files import decoding, sha256_of
from illada_core.text.tokenizer_files import TOKENIZER_FILE

PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Checked:
    """A step of a check: `tokens` more were read, and what was found wrong, if anything."""

    tokens: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class FrameFacts:
    """What a check learns from one frame; `eos_at` counts from the shard's first token."""

    tokens: int
    eos_at: Counts
    problem: str | None = None


def verify(dataset: TokenDataset, over: Mapper = map) -> Iterator[Checked]:
    """Check every shard of a dataset against the manifest and against itself.

    Frames and their checksums, hashes, counts, ids below the vocabulary, no mask tokens, eos where
    documents end and (but for chat examples, which may hold more) nowhere else, rows, segments and
    spans that fit. `over` maps a function over frames.
    """
    begun = ended = 0
    all_sound = True
    for number, entry in enumerate(dataset.manifest.shards):
        try:
            reader = dataset.shard(number)
        except DataError as error:
            all_sound = False
            yield Checked(problem=error.sentence)
            continue
        sound, found = True, [np.empty(0, np.int64)]
        for facts in over(partial(frame_facts, dataset, reader), range(reader.frames)):
            sound = sound and facts.problem is None
            found.append(facts.eos_at)
            yield Checked(facts.tokens, facts.problem)
        if not sound:
            all_sound = False
            continue  # hash and boundaries would only tell the same damage again
        eos_at = np.concatenate(found)
        begun += int((reader.index.document_offsets == 0).sum())
        ended += len(eos_at)
        for problem in boundary_problems(dataset, reader.index, eos_at):
            yield Checked(problem=f"damaged shard: {reader.path}, index: {problem}")
        # That of a shard at a URL was compared as it came.
        if dataset.url is None and sha256_of(reader.path) != entry.sha256:
            yield Checked(
                problem=f"damaged shard: {reader.path}: its sha256 is not the one in {MANIFEST}"
            )
    has_eos = dataset.manifest.tokenizer.special.eos is not None
    counts_ends = has_eos and dataset.manifest.kind == "rows" and not dataset.has_turns
    if all_sound and counts_ends and begun != ended:
        yield Checked(problem=f"{dataset.folder}: {begun} documents begin and {ended} end")


def tokenizer_problem(folder: Path, dataset: TokenDataset) -> str | None:
    """Tell what is wrong with the tokenizer.json that lies beside a dataset, if one does."""
    file, sha256 = folder / TOKENIZER_FILE, dataset.manifest.tokenizer.sha256
    if not file.exists() or sha256_of(file) == sha256:
        return None
    return f"{file} is not the tokenizer that made the tokens"


def frame_facts(dataset: TokenDataset, reader: ShardReader, frame: int) -> FrameFacts:
    """Read one frame and check its ids."""
    special = dataset.manifest.tokenizer.special
    where = f"damaged shard: {reader.path}, frame {frame}"
    nothing = np.empty(0, np.int64)
    try:
        ids = widen(reader.stored(frame), dataset.token_bytes)
    except DataError as error:
        return FrameFacts(0, nothing, error.sentence)
    if int(ids.max(initial=0)) >= dataset.vocab_size:
        problem = f"{where}: id {ids.max()} in a vocabulary of {dataset.vocab_size}"
        return FrameFacts(len(ids), nothing, problem)
    if special.mask is not None and (ids == special.mask).any():
        return FrameFacts(len(ids), nothing, f"{where}: it holds the mask token")
    eos_at = nothing if special.eos is None else np.flatnonzero(ids == special.eos)
    return FrameFacts(len(ids), eos_at + frame * FRAME_TOKENS)


def boundary_problems(dataset: TokenDataset, index: ShardIndex, eos_at: Counts) -> Iterator[str]:
    """Yield what is wrong with the ends and the sources of a shard whose tokens are sound."""
    manifest, last = dataset.manifest, index.document_ends - 1
    third = index.document_offsets if manifest.kind == "rows" else index.document_hashes
    counts = {len(last), len(index.document_files), len(index.document_records), len(third)}
    if len(counts) > 1:
        yield "documents without a source"
    if index.document_files.max(initial=-1) >= len(manifest.inputs):
        yield f"a document of an input that {MANIFEST} does not name"
    if manifest.tokenizer.special.eos is not None:
        stray = missing_from(last, eos_at)
        missing = missing_from(eos_at, last)
        if len(stray) and not dataset.has_turns:
            yield f"eos inside a document, at token {stray[0]}"
        elif manifest.kind == "documents" and len(missing):
            yield f"no eos at the end of a document, at token {missing[0]}"
    if dataset.has_turns and len(missing_from(index.span_ends, index.document_ends)):
        yield "a span that goes on after its document"
    if manifest.kind == "rows":
        longest = int(np.diff(index.row_ends, prepend=0).max(initial=0))
        if longest > sequence_length(dataset):
            yield f"a row of {longest} tokens"
        if len(missing_from(index.segment_ends, index.row_ends)):
            yield "a row that ends inside a segment"
        if len(missing_from(index.document_ends, index.row_ends)):
            yield "a row that ends inside a piece of a document"


def missing_from(ascending: Counts, wanted: Counts) -> Counts:
    """Return the wanted numbers that an ascending array lacks."""
    if not len(ascending):
        return wanted
    places = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return wanted[ascending[places] != wanted]


def describe(dataset: TokenDataset) -> dict[str, Any]:
    """Return the statistics of a dataset as plain values. Reads indexes only.

    Lengths are in tokens. In a dataset of rows `cuts` counts how often a document goes on in
    another row, and `empty_share` is the part of the rows' room that holds no token.
    """
    manifest, tokenizer = dataset.manifest, dataset.manifest.tokenizer
    size = sum(shard.bytes for shard in manifest.shards)
    facts = {
        "kind": manifest.kind,
        "tokens": dataset.tokens,
        "shards": len(manifest.shards),
        "bytes": size,
        "bits_per_token": round(8 * size / max(dataset.tokens, 1), 3),
        "vocab_size": tokenizer.vocab_size,
        "special_ids": asdict(tokenizer.special),
        "tokenizer_sha256": tokenizer.sha256,
        "fingerprint": dataset.fingerprint,
    }
    facts |= describe_rows(dataset) if manifest.kind == "rows" else describe_documents(dataset)
    turns = describe_turns(dataset) if dataset.has_turns else {}
    settings = {name: value for name, value in manifest.settings.items() if name not in turns}
    return {**facts, **turns, "settings": settings}


def outline(dataset: TokenDataset) -> dict[str, Any]:
    """Return what the manifest of a dataset of rows alone tells of it."""
    room = dataset.rows * sequence_length(dataset)
    return {
        "tokens": dataset.tokens,
        "rows": dataset.rows,
        "empty_share": 1 - dataset.tokens / max(room, 1),
        "fingerprint": dataset.fingerprint,
        "settings": dataset.manifest.settings,
    }


def describe_documents(dataset: TokenDataset) -> dict[str, Any]:
    """Return how many documents there are, how long, and how many repeat an earlier one."""
    lengths = [np.diff(index.document_ends, prepend=0) for index in dataset.indexes()]
    hashes = [index.document_hashes for index in dataset.indexes()]
    ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
    return {
        "documents": dataset.documents,
        "duplicate_documents": int((ordered[1:] == ordered[:-1]).sum()),
        "document_length": spread(np.concatenate([np.empty(0, np.int64), *lengths])),
    }


def describe_rows(dataset: TokenDataset) -> dict[str, Any]:
    """Return how rows are filled and how often documents are cut."""
    documents = sum(int((index.document_offsets == 0).sum()) for index in dataset.indexes())
    room = dataset.rows * sequence_length(dataset)
    return {
        "rows": dataset.rows,
        "documents": documents,
        "cuts": dataset.documents - documents,
        "segments": sum(shard.segments for shard in dataset.manifest.shards),
        "empty_share": 1 - dataset.tokens / max(room, 1),
        "row_length": spread(dataset.row_lengths),
    }


def sequence_length(dataset: TokenDataset) -> int:
    """Return how long a row may be. Raises DataError where the manifest does not say."""
    with decoding(dataset.folder / MANIFEST, hint=DAMAGED_HINT, fault="lacks what a manifest says"):
        asked = dataset.manifest.settings.get("sequence_length")
        length: int = shaped(asked, Count, "settings.sequence_length")
    return length


def describe_turns(dataset: TokenDataset) -> dict[str, Any]:
    """Return how many examples and responses a chat dataset has, and how long they are.

    What rows cut counts as one. What was cut or left out is of all parts of a packed dataset.
    """
    found = [example_spans(index) for index in dataset.indexes()]
    spans = np.concatenate([np.empty((4, 0), np.int64), *found], axis=1)
    turns, turn_lengths = sum_by(spans[:3], spans[3])
    _, example_lengths = sum_by(spans[1:3], spans[3])
    prompts, responses = turn_lengths[turns[0] == 0], turn_lengths[turns[0] > 0]
    settings = dataset.manifest.settings
    return {
        "examples": len(example_lengths),
        "responses": len(responses),
        "prompt_tokens": int(prompts.sum()),
        "response_tokens": int(responses.sum()),
        "response_share": int(responses.sum()) / max(dataset.tokens, 1),
        "example_length": spread(example_lengths),
        "prompt_length": spread(prompts),
        "response_length": spread(responses),
        CUT_EXAMPLES: settings.get(CUT_EXAMPLES, 0),
        LEFT_OUT: settings.get(LEFT_OUT, {}),
    }


def example_spans(index: ShardIndex) -> Counts:
    """Return the turn, record, file and length of each span, one row of numbers for each."""
    documents = np.searchsorted(index.document_ends, index.span_ends)
    files, records = index.document_files[documents], index.document_records[documents]
    return np.stack([index.span_turns, records, files, np.diff(index.span_ends, prepend=0)])


def sum_by(keys: Counts, lengths: Counts) -> tuple[Counts, Counts]:
    """Return the distinct columns of `keys`, and the sum of the lengths that have each."""
    order = np.lexsort(keys)
    ordered = keys[:, order]
    is_new = np.append(True, (np.diff(ordered) != 0).any(axis=0))[: len(order)]
    starts = np.flatnonzero(is_new)
    return ordered[:, starts], np.add.reduceat(lengths[order], starts)


def spread(lengths: Counts) -> dict[str, float]:
    """Return mean, percentiles and extremes of lengths; nothing for none."""
    if not len(lengths):
        return {}
    percentiles = np.percentile(lengths, PERCENTILES, method="lower").tolist()
    named = {f"p{p}": value for p, value in zip(PERCENTILES, percentiles, strict=True)}
    extremes = {"min": int(lengths.min()), "max": int(lengths.max())}
    return {"mean": round(float(lengths.mean()), 2), **extremes, **named}
