"""What packing a dataset makes of it: its parts, and the rows of each shard. No token is read.

Which documents a part takes and in which order is order.py, how pieces become rows packing.py;
write.py turns what is planned here into shards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from illada_core.arrays import Counts
from illada_core.data.pack.order import (
    PIECE,
    Part,
    Pieces,
    Sizes,
    Windows,
    plan_windows,
    tokens_of_blocks,
    window_pieces,
)
from illada_core.data.pack.packing import fit_rows, stream_rows, tokens_between
from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.manifest import TRAIN, VALIDATION
from illada_core.errors import DataError, UsageError

VALIDATION_SEED = 0
SIZES = Sizes()


@dataclass(frozen=True)
class PackSettings:
    """How documents become rows.

    `mode` is "stream" or "fit", `segments` "row" or "document", and `holdout` the share of
    documents that validation gets.
    """

    sequence_length: int
    mode: str
    segments: str
    shuffle: bool
    seed: int
    holdout: float


@dataclass(frozen=True)
class PartPlan:
    """One part of a packed dataset before it is written."""

    part: Part
    windows: Windows
    settings: PackSettings
    source: TokenDataset


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard: pieces row by row, and where rows end, counted in pieces."""

    pieces: Pieces
    row_ends: Counts


@lru_cache(1)  # whoever counts first and packs then reads all indexes once
def plan_parts(
    source: TokenDataset, settings: PackSettings, sizes: Sizes = SIZES
) -> tuple[PartPlan, ...]:
    """Plan the parts that the settings make of a dataset of documents, training first.

    Reads indexes only, and all of them: which documents are held out decides where rows begin.
    DataError if there is nothing to pack, or nothing left to train on.
    """
    if source.manifest.kind != "documents":
        raise UsageError(f"{source.folder} is packed already", "pack the dataset it came from")
    if not source.tokens:
        raise DataError(f"{source.folder} is empty: there is nothing to pack")
    longest = settings.sequence_length if settings.mode == "fit" else sizes.block_tokens
    sizes = replace(sizes, window_tokens=max(sizes.window_tokens, settings.sequence_length))
    parts = [
        Part(name, settings.holdout, longest, seed if settings.shuffle else None, sizes)
        for name, seed in ((TRAIN, settings.seed), (VALIDATION, VALIDATION_SEED))
    ]
    planned = zip(parts, tokens_of_blocks(source, parts), strict=True)
    plans = tuple(
        PartPlan(part, plan_windows(part, tokens), settings, source)
        for part, tokens in planned
        if tokens.any()
    )
    if plans[0].part.name != TRAIN:
        raise DataError(
            f"a holdout of {settings.holdout:g} takes every document of {source.folder}",
            "make --holdout smaller",
        )
    return plans


def row_maker(plan: PartPlan) -> Callable[[int], ShardRows]:
    """Return the function that makes the rows of a window, by its number. Reads indexes only."""
    length = plan.settings.sequence_length
    windows = plan.windows

    @lru_cache(2)  # a window of a stream ends with the first tokens of the next one
    def pieces_of(window: int) -> Pieces:
        return window_pieces(plan.source, plan.part, windows, window)

    def stream_pieces(window: int) -> Pieces:
        """Return the pieces of the rows that begin in a window: whole rows but for the last."""
        start, stop = (-(-windows.token_starts[window : window + 2] // length) * length).tolist()
        stop = min(stop, windows.tokens)
        found = [np.empty(0, PIECE)]
        while start < stop:
            base, end = windows.token_starts[window : window + 2].tolist()
            if start < end:
                upto = min(stop, end)
                found.append(tokens_between(pieces_of(window), start - base, upto - base))
                start = upto
            window += 1
        return np.concatenate(found)

    if plan.settings.mode == "stream":
        return lambda window: ShardRows(*stream_rows(stream_pieces(window), length))
    return lambda window: ShardRows(*fit_rows(pieces_of(window), length))


def plan_facts(plan: PartPlan) -> dict[str, Any]:
    """Return what a part will hold, exactly, as plain values. Reads indexes only."""
    make_rows = row_maker(plan)
    rows = pieces = 0
    for window in range(plan.windows.count):
        made = make_rows(window)
        rows, pieces = rows + len(made.row_ends), pieces + len(made.pieces)
    tokens = plan.windows.tokens
    return {
        "tokens": tokens,
        "rows": rows,
        "pieces": pieces,
        "shards": plan.windows.count,
        "empty_share": 1 - tokens / (rows * plan.settings.sequence_length),
    }
