"""Load scattered pieces of a dataset into memory, every frame inflated once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from illada_core.arrays import Counts
from illada_core.data.pack.order import Pieces
from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.frames import FRAME_TOKENS, Mapper, Stored
from illada_core.data.store.turns import Turns, turns_between


def load_pieces(dataset: TokenDataset, pieces: Pieces, over: Mapper = map) -> tuple[Stored, Counts]:
    """Return a buffer with the stored tokens of all pieces, and at which token each begins.

    The buffer is in the order of the dataset, so that shards are read in one direction; the
    places are in the order of the pieces. `over` maps a function over the frames, in order or not.
    """
    order = np.lexsort((pieces["start"], pieces["shard"]))
    ordered = pieces.take(order)
    places = np.cumsum(ordered["length"]) - ordered["length"]
    starts = np.empty_like(places)
    starts[order] = places
    width = dataset.token_bytes
    buffer = np.empty(int(pieces["length"].sum()) * width, np.uint8)

    def load_frame(spans: list[tuple[int, int, int, int, int]]) -> None:
        shard, frame = spans[0][:2]
        data = dataset.shard(shard).stored(frame)
        for _, _, start, stop, place in spans:
            end = place + stop - start
            buffer[place * width : end * width] = data[start * width : stop * width]

    frames = (list(spans) for _, spans in groupby(frame_spans(ordered), lambda span: span[:2]))
    for _ in over(load_frame, frames):
        pass
    return buffer, starts


def piece_turns(dataset: TokenDataset, pieces: Pieces) -> Turns:
    """Return the turns of all tokens of pieces of a chat dataset, in the order of the pieces."""
    order = np.argsort(pieces["shard"], kind="stable")  # each shard's index is opened once
    columns = (pieces[name][order].tolist() for name in ("shard", "start", "length"))
    found = [np.empty(0, np.uint16)] * len(pieces)
    for number, shard, start, length in zip(order.tolist(), *columns, strict=True):
        found[number] = turns_between(dataset.shard(shard).index, start, start + length)
    return np.concatenate(found)


def frame_spans(ordered: Pieces) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (shard, frame, start and stop in the frame, place in the buffer) of what is needed.

    Pieces that touch are one span; a span that crosses frames is several.
    """
    shards, starts = ordered["shard"], ordered["start"]
    stops = starts + ordered["length"]
    touches = (shards[1:] == shards[:-1]) & (starts[1:] == stops[:-1])
    first = np.flatnonzero(np.append(True, ~touches))
    last = np.append(first[1:], len(ordered)) - 1
    place = 0
    for shard, start, stop in zip(
        shards[first].tolist(), starts[first].tolist(), stops[last].tolist(), strict=True
    ):
        while start < stop:
            frame, begin = divmod(start, FRAME_TOKENS)
            upto = min(stop, (frame + 1) * FRAME_TOKENS)
            yield shard, frame, begin, begin + upto - start, place
            place += upto - start
            start = upto
