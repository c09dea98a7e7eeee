"""Whose turn each token of a chat dataset is: k for the k-th response of its example, else 0.

A response's tokens include the one that ends it; 0 are prompts and the template's frame. On disk
turns are spans, runs of tokens of one turn that never leave a document or a piece of one.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from illada_core.arrays import Counts
from illada_core.data.store.index import ShardIndex

Turns: TypeAlias = NDArray[np.uint16]
MOST_TURNS = 65_535


def turns_between(index: ShardIndex, start: int, stop: int) -> Turns:
    """Return the turns of tokens start to stop, start < stop, of a shard that has spans."""
    first, last = np.searchsorted(index.span_ends, (start + 1, stop))
    ends = np.minimum(index.span_ends[first : last + 1], stop)
    turns = index.span_turns[first : last + 1].astype(np.uint16)
    return np.repeat(turns, np.diff(ends, prepend=start))


def spans_of(turns: Turns, ends: Counts) -> tuple[Counts, Turns]:
    """Return the lengths and the turns of the spans of documents that end at `ends`."""
    span_ends = np.union1d(np.flatnonzero(np.diff(turns)) + 1, ends)
    return np.diff(span_ends, prepend=0), turns[span_ends - 1]
