"""Keys and values kept from step to step: where those of a canvas lie, which rows it computes anew.

The first pass of a block is over all rows; the others compute the rows of the block and meet what
the rest has left (Fast-dLLM's dual cache, arXiv 2505.22618), which is approximate: what was left
there was computed while more of the block was masked. Passes over all rows between them
(refreshes) and a wider window make it less so. Where attention is causal nothing that is written
depends on what is open, so keeping it is exact, and only what came since is computed.

Shapes: R rows to compute, B open positions, V vocabulary, M open positions of all canvases.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from illada_core.inference.canvas import Canvas
from illada_core.inference.decisions import Call
from illada_core.model.families.family import Reading
from illada_core.model.memory import KeyValues, Window

FIRST_SLOTS = 1024  # a memory begins with as many, and doubles
MOST_TOKENS = {"cpu": 16_384, "cuda": 65_536}
MANY = 1 << 30
FREE_SHARE = 1 / 3  # of a GPU's free memory, at most


class Remembering(Protocol):
    """What a cache asks of a model."""

    def new_memory(self, slots: int) -> KeyValues:
        """Return an empty memory."""

    def logits_in(self, ids_T: Tensor, window: Window, rows_M: Tensor, memory: KeyValues) -> Tensor:
        """Return logits_MV about tokens of a window, and leave its keys and values in a memory."""


@dataclass(frozen=True, eq=False)
class Pass:
    """One canvas in one call of the model: the positions that are computed, in rising order.

    `length` is that of the canvas then: what is committed may change it.
    """

    index: int
    canvas: Canvas
    row_R: np.ndarray
    length: int
    is_causal: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left as it was."""
        return len(self.row_R) == self.length

    @property
    def is_exact(self) -> bool:
        """Whether nothing is left that would be another now."""
        return self.is_whole or self.is_causal

    @property
    def rows(self) -> int:
        """How many rows are computed: twice as many under guidance."""
        return len(self.row_R) * self.canvas.views


@dataclass(frozen=True, eq=False)
class View:
    """The ids of a canvas as the model is to see them: as they are, or without condition."""

    of: Pass
    ids: np.ndarray
    is_blind: bool = False

    @property
    def open_B(self) -> np.ndarray:
        """The positions whose logits are asked for."""
        return self.of.canvas.open_B


class Slots:
    """Numbered slots, given out in unbroken spans, each the first that fits."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken: list[tuple[int, int]] = []

    def reserve(self, length: int) -> tuple[int, int] | None:
        """Return a free span, from here on taken; None where none is long enough."""
        start = 0
        for first, end in (*self.taken, (self.count, self.count)):
            if first - start >= length:
                span = (start, start + length)
                insort(self.taken, span)
                return span
            start = end
        return None

    def free(self, span: tuple[int, int]) -> None:
        """Give a span back."""
        self.taken.remove(span)


@dataclass
class Kept:
    """What is kept of one canvas: in which slots, and how old it is.

    `spans` are two under guidance. `geometry` is the canvas's own at its last refresh, `forwards`
    counts calls since then and with it, `committed` what had been written before it. The first
    `settled` positions had been written when they were computed.
    """

    spans: tuple[tuple[int, int], ...]
    geometry: int = -1
    forwards: int = 0
    committed: int = 0
    settled: int = 0


class Cache:
    """The memory of a model, shared out among canvases; at most `most_tokens` slots, or one canvas.

    A canvas reserves as many slots as it can ever fill, and gives them back when it leaves. By the
    `reading` of the model it is known whether the row before a position speaks of it, and is
    computed with it, and whether what is kept stays right.
    """

    def __init__(self, model: Remembering, most_tokens: int, reading: Reading) -> None:
        self.model, self.most_tokens, self.reading = model, most_tokens, reading
        self.slots = Slots(most_tokens)
        self.memory = model.new_memory(0)
        self.kept: dict[int, Kept] = {}

    @property
    def is_causal(self) -> bool:
        """Whether what is kept does not depend on what comes after it."""
        return self.reading.attention == "causal"

    def admit(self, index: int, canvas: Canvas) -> bool:
        """Find slots for a canvas, if it has none; tell whether it has them now."""
        if index in self.kept:
            return True
        if not self.kept:
            self.slots = Slots(max(self.most_tokens, canvas.capacity * canvas.views))
        spans: list[tuple[int, int]] = []
        for _ in range(canvas.views):
            span = self.slots.reserve(canvas.capacity)
            if span is None:
                for reserved in spans:
                    self.slots.free(reserved)
                return False
            spans.append(span)
        self.kept[index] = Kept(tuple(spans))
        return True

    def release(self, index: int) -> None:
        """Give back the slots of a canvas, if it has any."""
        if kept := self.kept.pop(index, None):
            for span in kept.spans:
                self.slots.free(span)

    def rows(self, index: int, canvas: Canvas) -> np.ndarray:
        """Return the positions that the next pass over an admitted canvas computes."""
        kept = self.kept[index]
        if self.is_causal:
            return unsettled_rows(kept, canvas)
        if is_due(kept, canvas):
            return every_row(canvas)
        return block_rows(canvas, bool(self.reading.shift))

    def passes_alike(self, next_one: Pass) -> int:
        """Return how many passes in turn compute the same rows, if what is written is as foreseen.

        The rest may come sooner: where a block ends, or enough tokens have been written.
        """
        settings, kept = next_one.canvas.rules.settings, self.kept[next_one.index]
        if self.is_causal or is_due(kept, next_one.canvas):
            return 1
        return settings.refresh_every - kept.forwards if settings.refresh_every else MANY

    def call(self, views: Sequence[View]) -> Call:
        """Return the call for the open positions of each view."""
        spans = [self.span(view) for view in views]
        self.grow(max(end for _, end in spans))
        rows = [view.of.row_R for view in views]
        starts = np.cumsum([0, *map(len, rows[:-1])])
        ids_T = np.concatenate([view.ids[own] for view, own in zip(views, rows, strict=True)])
        rows_M = np.concatenate(
            [
                start + np.searchsorted(own, view.open_B)
                for start, own, view in zip(starts, rows, views, strict=True)
            ]
        )
        window, asked_M = Window.of([own.tolist() for own in rows], spans), torch.from_numpy(rows_M)
        return Call(
            lambda ids_T: self.model.logits_in(ids_T, window, asked_M, self.memory),
            torch.from_numpy(ids_T),
            asked_M,
        )

    def span(self, view: View) -> tuple[int, int]:
        """Return the slots of what stands on a canvas now."""
        start, _ = self.kept[view.of.index].spans[view.is_blind]
        return start, start + len(view.ids)

    def note(self, done: Pass) -> None:
        """Remember what a pass leaves behind."""
        kept = self.kept[done.index]
        kept.forwards += 1
        kept.settled = int(done.canvas.open_B[0])
        if done.is_whole:
            kept.forwards, kept.committed = 1, done.canvas.committed
            kept.geometry = done.canvas.geometry

    def grow(self, slots: int) -> None:
        """Make the memory as long as it must be, and keep what it holds."""
        if slots > self.memory.slots:
            doubled = max(FIRST_SLOTS, 2 * self.memory.slots)
            self.memory = self.memory.grown(max(slots, min(doubled, self.slots.count)))


def cache_tokens_for(model: Remembering, device: torch.device | str) -> int:
    """Return of how many positions keys and values are kept where nobody says."""
    device = torch.device(device)
    most = MOST_TOKENS.get(device.type, MOST_TOKENS["cuda"])
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        most = min(most, int(free * FREE_SHARE / model.new_memory(1).nbytes))
    return most


def is_due(kept: Kept, canvas: Canvas) -> bool:
    """Tell whether a canvas needs a pass over all its rows.

    Where a block begins or positions moved it does; else by the settings' counts of calls and of
    tokens committed since the last.
    """
    settings = canvas.rules.settings
    committed = canvas.committed - kept.committed
    return (
        kept.geometry != canvas.geometry
        or (settings.refresh_every is not None and kept.forwards >= settings.refresh_every)
        or (settings.refresh_after is not None and committed >= settings.refresh_after)
    )


def every_row(canvas: Canvas) -> np.ndarray:
    """Return all positions of a canvas."""
    return np.arange(len(canvas.ids))


def unsettled_rows(kept: Kept, canvas: Canvas) -> np.ndarray:
    """Return what has come since the last pass, and the row that speaks of the first open one."""
    speaks = max(0, int(canvas.open_B[0]) - 1)
    return np.arange(min(kept.settled, speaks), len(canvas.ids))


def block_rows(canvas: Canvas, shift: bool = False) -> np.ndarray:
    """Return the positions of the block at hand, those in its vicinity, and those that speak."""
    reach = canvas.rules.settings.vicinity
    near = canvas.block_B[:, None] + np.arange(-max(reach, shift), reach + 1)
    return np.unique(near[(near >= 0) & (near < len(canvas.ids))])
