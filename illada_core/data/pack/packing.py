"""Pieces of documents into rows of at most `sequence_length` tokens. Lengths only, no tokens.

`stream` cuts the stream of documents into full windows, as the paper does. `fit` keeps documents
whole where they fit: best-fit-decreasing (Ding et al., ICML 2024, "Fewer Truncations Improve
Language Modeling"), placed by groups of equal lengths. Both return pieces row by row, and where
the rows end, counted in pieces.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from illada_core.arrays import Counts
from illada_core.data.pack.order import Pieces


def fit_rows(pieces: Pieces, sequence_length: int) -> tuple[Pieces, Counts]:
    """Put pieces, none longer than a row, into rows without cutting any.

    Rows come in the order of their first piece, and pieces of a row in the order they had: so
    shuffled pieces make shuffled rows.
    """
    rows = best_fit_decreasing(pieces["length"], sequence_length)
    backwards = np.arange(len(rows))[::-1]
    first = np.empty(rows.max(initial=-1) + 1, np.int64)
    first[rows[backwards]] = backwards  # of several writes to one place the last one stands
    order = np.argsort(first[rows], kind="stable")
    return pieces.take(order), np.cumsum(np.bincount(rows)[np.argsort(first)])


def best_fit_decreasing(lengths: Counts, capacity: int) -> Counts:
    """Return the row of each piece: longest pieces first, each where it leaves the least room.

    Best fit puts pieces of one length into a row for as long as they fit before it turns to
    another row, so they are placed by the group: the cost is that of distinct lengths.
    """
    order = np.argsort(-lengths, kind="stable")
    counts = np.bincount(lengths)
    distinct = np.flatnonzero(counts)[::-1]
    rooms: list[int] = []  # what open rows have left, ascending, each number once
    rows_with: dict[int, list[int]] = {}
    placed: list[int] = []  # rows of the pieces in decreasing order
    opened = 0
    for length, count in zip(distinct.tolist(), counts[distinct].tolist(), strict=True):
        while count:
            place = bisect_left(rooms, length)
            room = rooms[place] if place < len(rooms) else capacity
            each = min(room // length, count)
            if place < len(rooms):
                rows = rows_with[room]
                taken = rows[-(count // each) :]
                del rows[-(count // each) :]
                if not rows:
                    del rooms[place]
            else:
                taken = list(range(opened, opened + count // each))
                opened += len(taken)
            placed += taken * each
            count -= len(taken) * each
            left = room - each * length
            if left:
                rows = rows_with.setdefault(left, [])
                if not rows:
                    insort(rooms, left)
                rows += taken
    result = np.empty(len(lengths), np.int64)
    result[order] = placed
    return result


def stream_rows(pieces: Pieces, sequence_length: int) -> tuple[Pieces, Counts]:
    """Cut pieces that follow each other into full rows; the last row may be shorter."""
    if not len(pieces):
        return pieces, np.empty(0, np.int64)
    ends = np.cumsum(pieces["length"])
    total = int(ends[-1])
    row_ends = np.append(np.arange(sequence_length, total, sequence_length), total)
    cut_ends = np.sort(np.concatenate([ends, row_ends]))
    cut_ends = cut_ends[np.diff(cut_ends, prepend=0) > 0]
    cut_starts = np.append(0, cut_ends[:-1])
    of = np.searchsorted(ends, cut_ends)
    cut = pieces.take(of)
    before = cut_starts - (ends - pieces["length"])[of]
    cut["length"] = cut_ends - cut_starts
    cut["start"] += before
    cut["offset"] += before
    return cut, np.searchsorted(cut_ends, row_ends) + 1


def tokens_between(pieces: Pieces, start: int, stop: int) -> Pieces:
    """Return what lies at positions start to stop, start < stop, of pieces laid end to end."""
    ends = np.cumsum(pieces["length"])
    first, last = np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop)
    before = start - (ends[first] - pieces["length"][first])
    found = pieces[first : last + 1].copy()
    found["length"][-1] -= ends[last] - stop
    found["length"][0] -= before
    found["start"][0] += before
    found["offset"][0] += before
    return found
