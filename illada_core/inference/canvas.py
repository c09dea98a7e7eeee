"""One prompt on its way to a text: its canvas of ids, its gaps, its blocks, and when it ends.

A task is fixed ids with gaps between them. Generation is one gap after the prompt: growing by
blocks (variable length), or all there from the start (fixed canvas). Infilling is any number of
gaps of either kind. Plain numpy on the host; the model is not known here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from illada_core.inference.commits import step_quotas
from illada_core.inference.rules import NO_MASK, Rules


@dataclass(frozen=True)
class Gap:
    """Masks to fill: `length` of them at once, or, if it grows, up to that many by blocks.

    Only in a gap that `may_end` can an end id or a stop string stand, and end it early.
    """

    length: int
    grows: bool = False
    may_end: bool = False


@dataclass(frozen=True)
class Task:
    """Runs of fixed ids around gaps: runs[0] gaps[0] runs[1] …, one run more than gaps.

    Equal runs draw equal random numbers, whatever their company; `sample` tells repeats apart.
    """

    runs: tuple[tuple[int, ...], ...]
    gaps: tuple[Gap, ...]
    sample: int = 0

    @cached_property
    def noise_key(self) -> int:
        """32 bits that name the fixed ids and the sample."""
        named = repr((self.runs, self.sample)).encode()
        return int.from_bytes(hashlib.sha256(named).digest()[:4], "little")

    @property
    def is_continuation(self) -> bool:
        """Tell whether this is a prompt with one gap after it."""
        return len(self.gaps) == 1 and not self.runs[1]


def continuation(prompt_ids: Sequence[int], new_tokens: int, grows: bool = True) -> Task:
    """Return the task to continue a prompt by up to new_tokens, or on a canvas of just as many."""
    return Task((tuple(prompt_ids), ()), (Gap(new_tokens, grows, may_end=True),))


@dataclass
class Fill:
    """What stands in one gap, from `start` to `stop` on the canvas.

    `cut_ids` are those from where a stop string begins, or begins inside the first of them.
    """

    gap: Gap
    start: int
    stop: int
    finish_reason: str | None = None
    cut_ids: tuple[int, ...] = ()


class Canvas:
    """The state of one task: it is over when every gap is full or has ended.

    `block_B` are the positions of this block, `open_B` those of them that are still to be filled,
    leftmost first. Gaps of given length that follow each other are filled together, one that may
    end by itself; each such stage is cut into blocks. `geometry` changes whenever another block
    begins or positions move; `committed` counts the tokens written, `exact` tells whether all were
    chosen as if nothing were kept from step to step.
    """

    def __init__(self, task: Task, rules: Rules) -> None:
        self.task, self.rules, self.mask_id = task, rules, rules.ids.mask_id
        self.step = self.committed = self.geometry = 0
        self.refreshes = self.rows_computed = 0
        self.exact = True
        self.fills: list[Fill] = []
        pieces = [task.runs[0]]
        place = len(task.runs[0])
        for gap, run in zip(task.gaps, task.runs[1:], strict=True):
            size = min(gap.length, rules.block_length) if gap.grows else gap.length
            self.fills.append(Fill(gap, place, place + size))
            pieces += [(self.mask_id,) * size, run]
            place += size + len(run)
        self.ids = np.array([token for piece in pieces for token in piece], dtype=np.int64)
        numbered = enumerate(self.fills)
        together = groupby(numbered, lambda pair: pair[0] if pair[1].gap.may_end else -1)
        self.stages = [[fill for _, fill in group] for _, group in together]
        self.open_stage()

    def open_stage(self) -> None:
        """Begin the next stage that has something to fill: note what stands, cut its blocks."""
        self.was_open = self.ids == self.mask_id
        while self.stages:
            within = [np.arange(fill.start, fill.stop) for fill in self.stages[0]]
            positions = np.concatenate(within)
            positions = positions[self.was_open[positions]]
            if len(positions):
                cuts = range(self.rules.block_length, len(positions), self.rules.block_length)
                self.blocks = np.split(positions, cuts)
                self.open_block()
                return
            self.stages.pop(0)

    def open_block(self) -> None:
        self.block_B = self.open_B = self.blocks.pop(0)
        self.geometry += 1
        settings = self.rules.settings
        self.quotas = step_quotas(len(self.open_B), settings.steps_per_block, settings.schedule)

    @property
    def is_finished(self) -> bool:
        """Tell whether nothing is left to fill."""
        return not self.stages

    @property
    def capacity(self) -> int:
        """How many positions it can ever have."""
        task = self.task
        return sum(map(len, task.runs)) + sum(gap.length for gap in task.gaps)

    @property
    def views(self) -> int:
        """In how many ways the model is to see it: two under guidance."""
        return 2 if self.rules.settings.cfg else 1

    def filled(self) -> tuple[np.ndarray, ...]:
        """Return what stands in each gap, the mask id where it is open."""
        return tuple(self.ids[fill.start : fill.stop].copy() for fill in self.fills)

    def shown_ids(self) -> np.ndarray:
        """Return the ids as the model is to see them; where there is no mask no id is open to it.

        What stands for an open position then is met by nothing that is read.
        """
        return self.ids if self.mask_id != NO_MASK else self.ids.clip(0)

    def unguided_ids(self) -> np.ndarray:
        """Return the ids with all that stood when the stage began masked, as guidance wants it."""
        return np.where(self.was_open, self.ids, self.mask_id)

    def may_end_B(self) -> np.ndarray:
        """Tell for each open position whether an end id may stand there."""
        may_B = np.zeros(len(self.open_B), dtype=bool)
        for fill in self.stages[0]:
            if fill.gap.may_end:
                may_B |= (self.open_B >= fill.start) & (self.open_B < fill.stop)
        return may_B

    def commit(self, positions: np.ndarray, tokens: np.ndarray) -> bool:
        """Write tokens at some open positions; return whether that completed a block."""
        self.ids[positions] = tokens
        self.open_B = self.open_B[self.ids[self.open_B] == self.mask_id]
        self.quotas.pop(0)
        self.step += 1
        self.committed += len(positions)
        for fill in self.stages[0]:
            if fill.gap.may_end:
                self.end_at_token(fill)
        if len(self.open_B):
            return False
        self.close_block()
        return True

    def end_at_token(self, fill: Fill) -> None:
        """End a fill at its first end id, once nothing before that is open."""
        ids = self.ids[fill.start : fill.stop]
        ends = np.flatnonzero(np.isin(ids, self.rules.end_ids))
        if len(ends) and self.mask_id not in ids[: ends[0]]:
            is_eos = int(ids[ends[0]]) in self.rules.ids.eos_ids
            if not self.end_at_string(fill, int(ends[0])):
                self.end(fill, int(ends[0]), "eos" if is_eos else "stop")

    def end_at_string(self, fill: Fill, written: int) -> bool:
        """End a fill before a stop string among its first `written` ids, if one is there."""
        ids = self.ids[fill.start : fill.start + written].tolist()
        find_stop = self.rules.find_stop
        kept = find_stop(ids) if find_stop and ids else None
        if kept is not None:
            fill.cut_ids = tuple(ids[kept:])
            self.end(fill, kept, "stop")
        return kept is not None

    def end(self, fill: Fill, kept: int, reason: str) -> None:
        """Cut a fill after `kept` ids: what came later in it leaves the canvas."""
        fill.finish_reason = reason
        at = fill.start + kept
        # Gaps that may end do not share a stage, so nothing open stands behind this one.
        self.open_B, self.block_B = self.open_B[self.open_B < at], self.block_B[self.block_B < at]
        self.blocks = [left for block in self.blocks if len(left := block[block < at])]
        self.resize(fill, at)

    def resize(self, fill: Fill, stop: int) -> None:
        """Cut the canvas in a fill, or lengthen it with masks, so that the fill ends at `stop`."""
        kept, moved = min(fill.stop, stop), stop - fill.stop
        masks = np.full(max(0, moved), self.mask_id)
        self.ids = np.concatenate((self.ids[:kept], masks, self.ids[fill.stop :]))
        was_open = self.was_open
        self.was_open = np.concatenate(
            (was_open[:kept], np.ones(len(masks), dtype=bool), was_open[fill.stop :])
        )
        self.geometry += 1
        fill.stop = stop
        for later in self.fills[self.fills.index(fill) + 1 :]:
            later.start, later.stop = later.start + moved, later.stop + moved

    def close_block(self) -> None:
        """Go on after a full block: stop strings, the next block, growth, the next stage."""
        for fill in self.stages[0]:
            if fill.gap.may_end and not fill.finish_reason:
                masks = np.flatnonzero(self.ids[fill.start : fill.stop] == self.mask_id)
                self.end_at_string(fill, int(masks[0]) if len(masks) else fill.stop - fill.start)
        if self.blocks:
            self.open_block()
            return
        fill = self.stages[0][-1]
        if fill.gap.grows and not fill.finish_reason and fill.stop - fill.start < fill.gap.length:
            most = fill.start + fill.gap.length
            self.resize(fill, min(fill.stop + self.rules.block_length, most))
        else:
            self.stages.pop(0)
        self.open_stage()
