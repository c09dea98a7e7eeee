"""Small passes without gradients, replayed as CUDA graphs: one launch in place of hundreds.

A pass over few rows is computed faster than a host can ask for it, operator by operator. Here it is
asked for once for each bucket of sizes, recorded, and replayed for all passes that fit the bucket.
What differs between them (ids, positions, slots, where texts end) are numbers in one buffer on the
device; sizes are bounds. A bucket is filled up with the last row over again: it meets what that row
meets, becomes what that row becomes, and leaves the same keys and values in the same slot.

Shapes: T computed rows, D texts, S keys, M asked rows, V vocabulary; N numbers in the buffer.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from illada_core.errors import UsageError
from illada_core.model.attention import PACKED_BACKENDS, Places
from illada_core.model.memory import KeyValues, Window
from illada_core.model.transfer import sent
from illada_core.model.transformer import Transformer

MOST_ROWS = 256  # a pass over more takes a GPU longer than it takes its host
FEWEST_ROWS, FEWEST_KEYS = 32, 1024
MOST_APART = 0.01  # of the largest logit, between a replayed pass and the pass itself


class Bucket(NamedTuple):
    """The sizes that a recorded pass has room for."""

    rows: int
    texts: int
    keys: int
    asked: int


class Recorded(Protocol):
    """Work that was recorded, and the tensor that it leaves its result in."""

    result: Tensor

    def replay(self) -> None:
        """Do it again, on the numbers that are in its buffers now."""


class CudaGraph:
    """Work recorded on a GPU."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            work()  # libraries choose kernels and take memory the first time
        here.wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=shared_pool()):
            self.result = work()

    def replay(self) -> None:
        """Do the work again."""
        self.graph.replay()


@cache
def shared_pool() -> Any:
    """Return the memory that all graphs take what they need from: one runs at a time."""
    return torch.cuda.graph_pool_handle()


class Pass(NamedTuple):
    """A recorded pass, and the buffer it takes its numbers from."""

    numbers_N: Tensor
    recorded: Recorded


Passes: TypeAlias = dict[Bucket, Pass]


class Replay:
    """A model whose small passes are replayed; all others it computes as ever.

    What is returned is overwritten by the next call. `record` is what records work on its device.
    Raises UsageError where attention is told of segments by the host.
    """

    def __init__(
        self,
        model: Transformer,
        record: Callable[[Callable[[], Tensor]], Recorded] = CudaGraph,
    ) -> None:
        if model.backend not in PACKED_BACKENDS:
            raise UsageError(
                f"graphs need a packed kernel of attention, not {model.backend}",
                "on a GPU in bfloat16 there is one",
            )
        self.model, self.record = model, record
        self.passes: WeakKeyDictionary[KeyValues, Passes] = WeakKeyDictionary()
        self.own = model.new_memory(0)

    def new_memory(self, slots: int) -> KeyValues:
        """Return an empty memory for the model."""
        return self.model.new_memory(slots)

    def logits_at(self, ids_T: Tensor, segment_ends: Sequence[int], rows_M: Tensor) -> Tensor:
        """Return logits_MV about packed tokens: a pass that computes all rows of its texts."""
        if len(ids_T) > MOST_ROWS or self.model.config.is_causal:
            return self.model.logits_at(ids_T, segment_ends, rows_M)
        if self.own.slots < MOST_ROWS:
            self.own = self.model.new_memory(MOST_ROWS)
        spans = tuple(pairwise((0, *segment_ends)))
        window = Window.of([range(end - start) for start, end in spans], spans)
        return self.logits_in(ids_T, window, rows_M, self.own)

    def logits_in(self, ids_T: Tensor, window: Window, rows_M: Tensor, memory: KeyValues) -> Tensor:
        """Return logits_MV about some tokens of a window; its keys and values stay in the memory.

        All but the memory comes from the host, and ids may. Raises UsageError where the first
        replay in a bucket differs from the pass itself.
        """
        if len(ids_T) > MOST_ROWS or self.model.config.is_causal:
            return self.model.logits_in(ids_T, window, rows_M, memory)
        places = window.places
        assert places.slots_S is not None, "windows know where their keys are"
        bucket = Bucket(
            rows=at_least(FEWEST_ROWS, len(ids_T)),
            texts=at_least(1, len(places.spans)),
            keys=at_least(FEWEST_KEYS, len(places.slots_S)),
            asked=at_least(FEWEST_ROWS, len(rows_M)),
        )
        device = memory.k_LSGK.device
        told = (
            filled_up(window.positions_T, bucket.rows),
            filled_up(window.slots_T, bucket.rows),
            # What fills up the rows belongs to the last text; texts that fill up have none.
            filled_up(places.q_offsets_D1[:-1], bucket.texts + 1, bucket.rows),
            filled_up(places.k_offsets_D1, bucket.texts + 1),
            filled_up(places.slots_S, bucket.keys),
            filled_up(rows_M, bucket.asked),
        )
        ids = filled_up(sent(ids_T, device), bucket.rows)
        numbers_N = torch.cat((ids, sent(torch.cat(told), device)))
        passes = self.passes.setdefault(memory, {})
        if bucket not in passes:
            passes[bucket] = self.recorded(bucket, numbers_N, memory)
        found = passes[bucket]
        found.numbers_N.copy_(numbers_N)
        found.recorded.replay()
        return found.recorded.result[: len(rows_M)]

    def recorded(self, bucket: Bucket, numbers_N: Tensor, memory: KeyValues) -> Pass:
        """Record a pass over the numbers of a buffer, which are those of a real pass."""
        rows, texts, keys, asked = bucket
        sizes = (rows, rows, rows, texts + 1, texts + 1, keys, asked)
        buffer_N = numbers_N.clone()

        def work() -> Tensor:
            ids_T, positions_T, slots_T, q_D1, k_D1, slots_S, rows_M = buffer_N.split(sizes)
            places = Places(q_D1.int(), rows, (), k_D1.int(), keys, slots_S)
            window = Window(positions_T, slots_T, places)
            return self.model.logits_in(ids_T, window, rows_M, memory)

        recorded = self.record(work)
        recorded.replay()
        refuse_other(recorded.result, work())
        return Pass(buffer_N, recorded)


def replayed(model: Transformer, graphs: bool) -> "Transformer | Replay":
    """Return a model, replayed if asked for."""
    return Replay(model) if graphs else model


def refuse_other(found_MV: Tensor, expected_MV: Tensor) -> None:
    """Raise UsageError where replayed logits are not those of the pass that was recorded."""
    apart = (found_MV - expected_MV).abs().max() / expected_MV.abs().max()
    if not apart <= MOST_APART:
        raise UsageError(
            f"a replayed pass gives other logits than the pass itself, {float(apart):.1e} apart",
            "without graphs each pass is computed as ever",
        )


def at_least(least: int, size: int) -> int:
    """Return the smallest power of two that a size fits, or the least there is."""
    return max(least, 1 << (size - 1).bit_length())


def filled_up(values: Tensor, length: int, value: int | None = None) -> Tensor:
    """Return values as int64, the last of them (or another) repeated up to a length."""
    wide = values.to(torch.int64)
    last = wide[-1:] if value is None else wide.new_full((1,), value)
    return torch.cat((wide, last.expand(length - len(wide))))
