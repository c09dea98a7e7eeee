"""The index of a shard: where documents, segments, rows and spans end, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from illada_core.arrays import Counts
from illada_core.data.store.frames import NO_NUMBERS
from illada_core.errors import DataError


@dataclass(frozen=True)
class ShardIndex:
    """Where the parts of a shard end, counted from its first token, and where they came from.

    In a dataset of documents `document_hashes` tells contents apart, and there are no offsets,
    segments and rows. In a dataset of rows a document may be cut: `document_offsets` says where in
    its document each piece begins; pieces, segments and rows each cover every token once. A shard
    of a chat dataset has spans, which do so too, and the turn of each (turns.py).
    """

    document_ends: Counts
    document_files: Counts
    document_records: Counts
    document_hashes: NDArray[np.uint64]
    document_offsets: Counts
    segment_ends: Counts
    row_ends: Counts
    span_ends: Counts
    span_turns: Counts


def index_of(arrays: dict[str, NDArray[np.uint64]], tokens: int) -> ShardIndex:
    """Turn the stored arrays into ends and sources; DataError unless they cover the tokens."""

    def signed(name: str) -> Counts:
        return arrays.get(name, NO_NUMBERS).astype(np.int64)

    ends = {}
    for part in ("document", "segment", "row", "span"):
        lengths = signed(f"{part}_lengths")
        # One beyond the tokens would hide itself where sums wrap around.
        if ((lengths < 1) | (lengths > tokens)).any():
            raise DataError(f"its {part}s are not of 1 to {tokens} tokens")
        ends[part] = np.cumsum(lengths)
        if len(lengths) and ends[part][-1] != tokens:
            raise DataError(f"its {part}s hold {ends[part][-1]} tokens, not {tokens}")
    if len(ends["span"]) != len(signed("span_turns")):
        raise DataError("its spans and their turns differ in number")
    if {len(signed(f"document_{name}")) for name in ("files", "records")} != {
        len(ends["document"])
    }:
        raise DataError("its documents and their sources differ in number")
    for part in ("document", "segment"):
        if not are_among(ends["row"], ends[part]):
            raise DataError(f"a row ends inside a {part}")
    return ShardIndex(
        document_ends=ends["document"],
        document_files=signed("document_files"),
        document_records=signed("document_records"),
        document_hashes=arrays.get("document_hashes", NO_NUMBERS),
        document_offsets=signed("document_offsets"),
        segment_ends=ends["segment"],
        row_ends=ends["row"],
        span_ends=ends["span"],
        span_turns=signed("span_turns"),
    )


def are_among(some: Counts, rising: Counts) -> bool:
    """Tell whether numbers are all among others, which rise: a search for each, and no sorting."""
    if not len(some):
        return True
    found = np.searchsorted(rising, some)
    return bool((found < len(rising)).all() and (rising[found] == some).all())
