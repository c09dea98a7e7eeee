"""Rows of a packed dataset as micro-batches, in an order that is a pure function (laws 2 and 3).

A run is an endless line of places: place p is row `order(p % rows)` of epoch p // rows. Step s is
the window of `rows_per_step` places from s · rows_per_step on (counted from another origin where
the size of a step has changed), whatever the ranks and the size of a micro-batch, and steps run
over the ends of epochs. No state exists, so resuming is naming the step. What happens to a row
after it is read (splitting, hiding) is diffusion/corruption.py.

An epoch's order permutes blocks of neighbouring rows, then the rows inside a window of blocks:
reading stays near the frames that the dataset has just inflated, and nothing as long as the
dataset is ever stored.

Shapes: T packed tokens, R rows, D segments, N any number of indexes.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from illada_core.data.store.dataset import Row, TokenDataset
from illada_core.data.store.turns import Turns
from illada_core.noise import STREAM_ROW_ORDER, random_words

Indexes: TypeAlias = NDArray[np.int64]
Made = TypeVar("Made")

BLOCK_ROWS = 64
WINDOW_BLOCKS = 16
WINDOW_ROWS = BLOCK_ROWS * WINDOW_BLOCKS
FEISTEL_ROUNDS = 6
STEPS_AHEAD = 2

# Positions of STREAM_ROW_ORDER; those from FIRST_ROUND on belong to the rounds of the network.
ROW_KEY, FIRST_ROW, FIRST_ROUND = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows laid end to end, with the ends of rows and segments as they are stored.

    `places` are those of the rows in the run; `rows` and `epochs` follow from them. `turns` tell
    whose turn each token is, None where the dataset does not.
    """

    ids_T: NDArray[np.uint32]
    row_ends_R: Indexes
    segment_ends_D: Indexes
    places_R: Indexes
    epochs_R: Indexes
    rows_R: Indexes
    turns_T: Turns | None = None


@dataclass(frozen=True)
class Share:
    """What one rank has of each step: every world-th row, so that ranks see like ratios.

    `origin` is the place where step 0 would begin if all steps had as many rows.
    """

    rows_per_step: int
    micro_rows: int
    rank: int = 0
    world: int = 1
    origin: int = 0

    def micro_places(self, step: int) -> list[range]:
        """Return the places of each micro-batch of a step.

        All ranks have as many; where rows run out, a micro-batch has no place.
        """
        start = self.origin + step * self.rows_per_step
        own = range(start + self.rank, start + self.rows_per_step, self.world)
        most = -(-self.rows_per_step // self.world)
        return [own[first : first + self.micro_rows] for first in range(0, most, self.micro_rows)]


def read_steps(
    share: Share, first_step: int, make: Callable[[range], Made]
) -> Generator[list[Made]]:
    """Yield, without end, what `make` makes of a rank's places in each step from `first_step` on.

    A thread works STEPS_AHEAD steps ahead. Its errors are raised here, at their step; closing the
    iterator ends it.
    """

    def make_step(step: int) -> list[Made]:
        return [make(places) for places in share.micro_places(step)]

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
    reading: deque[Future[list[Made]]] = deque()
    try:
        for step in count(first_step):
            reading.append(reader.submit(make_step, step))
            if len(reading) > STEPS_AHEAD:
                yield reading.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)


def read_batch(dataset: TokenDataset, places: Sequence[int], seed: int) -> Batch:
    """Read the rows at the given places of a run, at least one. Raises DataError on damage."""
    found = [row_at(place, dataset.rows, seed) for place in places]
    rows = [dataset.row(number) for _, number in found]
    return join_rows(rows, places, [epoch for epoch, _ in found], [row for _, row in found])


def join_rows(
    rows: Sequence[Row], places: Sequence[int], epochs: Sequence[int], numbers: Sequence[int]
) -> Batch:
    """Lay rows end to end; turns are known where they are known of each."""
    turns = [row.turns for row in rows if row.turns is not None]
    row_ends_R = np.cumsum([len(row.ids) for row in rows])
    starts = (0, *row_ends_R[:-1])
    return Batch(
        ids_T=np.concatenate([row.ids for row in rows]),
        row_ends_R=row_ends_R,
        segment_ends_D=np.concatenate(
            [row.segment_ends + start for row, start in zip(rows, starts, strict=True)]
        ),
        places_R=np.array(places, np.int64),
        epochs_R=np.array(epochs),
        rows_R=np.array(numbers),
        turns_T=np.concatenate(turns) if len(turns) == len(rows) else None,
    )


def row_at(place: int, rows: int, seed: int, source: int = 0) -> tuple[int, int]:
    """Return (epoch, row) at a place of a run over a dataset of `rows` rows.

    Sources of a mixture have orders of their own, by number.
    """
    epoch, within = divmod(place, rows)
    window, slot = divmod(within, WINDOW_ROWS)
    return epoch, int(shuffle_window(rows, seed, epoch, window, source)[slot])


@lru_cache(maxsize=64)  # some windows of each source of a mixture
def shuffle_window(rows: int, seed: int, epoch: int, window: int, source: int = 0) -> Indexes:
    """Return the rows of one window of an epoch in their order.

    The last, shorter block keeps its slot; each epoch therefore begins to count at another row.
    """
    base = source << 40
    whole_blocks, blocks = rows // BLOCK_ROWS, -(-rows // BLOCK_ROWS)
    slots_N = np.arange(window * WINDOW_BLOCKS, min((window + 1) * WINDOW_BLOCKS, blocks))
    movable_N = slots_N < whole_blocks
    slots_N[movable_N] = permute(slots_N[movable_N], whole_blocks, seed, epoch, base)
    counted_N = (slots_N[:, None] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).ravel()
    first_row = random_words(seed, STREAM_ROW_ORDER, epoch, base, FIRST_ROW) * rows >> 32
    rows_N = (counted_N[counted_N < rows] + first_row) % rows
    keys_N = random_words(seed, STREAM_ROW_ORDER, epoch, rows_N | base, ROW_KEY)
    return rows_N[np.argsort(keys_N, kind="stable")]


def permute(indexes_N: Indexes, size: int, seed: int, epoch: int, base: int = 0) -> Indexes:
    """Map indexes below `size` by a permutation of all of them, without storing it.

    A Feistel network permutes the next power of four; who lands outside walks on until inside.
    """
    half_bits = (max(size - 1, 1).bit_length() + 1) // 2
    half = (1 << half_bits) - 1
    found_N = indexes_N.copy()
    outside_N = np.ones(len(found_N), bool)
    while outside_N.any():
        left_N, right_N = found_N[outside_N] >> half_bits, found_N[outside_N] & half
        for turn in range(FIRST_ROUND, FIRST_ROUND + FEISTEL_ROUNDS):
            words_N = random_words(seed, STREAM_ROW_ORDER, epoch, right_N | base, turn)
            left_N, right_N = right_N, left_N ^ (words_N & half)
        found_N[outside_N] = left_N << half_bits | right_N
        outside_N = found_N >= size
    return found_N
