"""A mixture: several packed datasets, its sources, as one line of places (laws 2 and 3).

Of each CYCLE places in a row a source has as many slots as its share says, spread evenly from a
random start on. So which source a place belongs to, and how many places of that source come before
it, are functions of the seed and the place: no counter exists that could be lost. The k-th place of
a source has its k-th row, each once per epoch of the source, in an order of its own.

A run may go on with another mixture: then a phase begins, and each source goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np

from illada_core.arrays import Counts
from illada_core.data.batches import Batch, join_rows, row_at
from illada_core.data.store.dataset import TokenDataset
from illada_core.decoding import Count
from illada_core.errors import UsageError
from illada_core.noise import STREAM_MIXTURE, random_words, unit_interval

CYCLE = 1 << 14
ENTRY_HINT = "write FOLDER=WEIGHT, or FOLDER=2x for two epochs of it to one of FOLDER=1x"

Slots = tuple[tuple[str, Count], ...]  # of each source by its fingerprint; together CYCLE


@dataclass(frozen=True)
class Entry:
    """What was asked of a source: a weight among the rows, or how many epochs of it."""

    path: str
    amount: float
    is_epochs: bool


@dataclass(frozen=True)
class Phase:
    """Places of a run, from `first_place` on, that are shared out alike."""

    first_place: Count
    slots: Slots


def parse_mixture(texts: Sequence[str]) -> list[Entry]:
    """Read `FOLDER=WEIGHT` or `FOLDER=EPOCHSx`, all of one kind. Raises UsageError."""
    entries = []
    for text in texts:
        path, equals, amount = text.rpartition("=")
        number = amount.removesuffix("x")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not (path and equals and isfinite(value) and value > 0):
            raise UsageError(f"no source of a mixture: {text!r}", ENTRY_HINT)
        entries.append(Entry(path, value, number != amount))
    if len({entry.is_epochs for entry in entries}) > 1:
        raise UsageError("a mixture has weights or epochs, not both", ENTRY_HINT)
    return entries


def share_out(entries: Sequence[Entry], sources: Sequence[TokenDataset]) -> Slots:
    """Return how many slots of a cycle each source has, to the nearest.

    Raises UsageError where a dataset is named twice, or has too small a share for one slot.
    """
    names = [source.fingerprint for source in sources]
    if len(set(names)) < len(names):
        raise UsageError("a mixture names the same dataset twice", "add up its weights")
    amounts = [
        entry.amount * (source.rows if entry.is_epochs else 1)
        for entry, source in zip(entries, sources, strict=True)
    ]
    ends = np.rint(np.cumsum(amounts) / sum(amounts) * CYCLE).astype(int)
    slots = np.diff(ends, prepend=0).tolist()
    for entry, count in zip(entries, slots, strict=True):
        if not count:
            raise UsageError(
                f"{entry.path} has too small a share of the mixture", f"1/{CYCLE} is the least"
            )
    return tuple(zip(names, slots, strict=True))


def whole_of(fingerprint: str) -> tuple[Phase, ...]:
    """Return the phases of a run on one dataset."""
    return (Phase(0, ((fingerprint, CYCLE),)),)


def go_on(phases: tuple[Phase, ...], slots: Slots, place: int) -> tuple[Phase, ...]:
    """Return the phases of a run that goes on with these slots from a place on."""
    before = tuple(phase for phase in phases if phase.first_place < place)
    if before and before[-1].slots == slots:
        return before
    return (*before, Phase(place, slots))


class Mixture:
    """The places of a run over several datasets. Sources are numbered as they first came in."""

    def __init__(
        self, phases: tuple[Phase, ...], sources: Sequence[TokenDataset], seed: int
    ) -> None:
        self.phases, self.seed = phases, seed
        self.datasets = {source.fingerprint: source for source in sources}
        names = [name for phase in phases for name, _ in phase.slots]
        self.numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self.before = [dict.fromkeys(self.numbers, 0)]  # places of each source before each phase
        for phase in range(len(phases) - 1):
            length = phases[phase + 1].first_place - phases[phase].first_place
            counts = dict(self.before[-1])
            for at, (name, _) in enumerate(phases[phase].slots):
                counts[name] += self.count(phase, at, length)
            self.before.append(counts)

    def locate(self, place: int) -> tuple[str, int]:
        """Return the source of a place of the run, and how many places of it come before."""
        phase = max(n for n, each in enumerate(self.phases) if each.first_place <= place)
        within = place - self.phases[phase].first_place
        at = int(self.order(phase, within // CYCLE)[within % CYCLE])
        name = self.phases[phase].slots[at][0]
        return name, self.before[phase][name] + self.count(phase, at, within)

    def count(self, phase: int, at: int, length: int) -> int:
        """Return how many of the first places of a phase belong to its source number `at`."""
        cycles, rest = divmod(length, CYCLE)
        begun = self.order(phase, cycles)[:rest] == at if rest else np.empty(0, bool)
        return cycles * self.phases[phase].slots[at][1] + int(begun.sum())

    def order(self, phase: int, cycle: int) -> Counts:
        """Return which source of a phase each place of a cycle belongs to."""
        slots = self.phases[phase].slots
        numbers = tuple(self.numbers[name] for name, _ in slots)
        return cycle_order(tuple(count for _, count in slots), numbers, self.seed, phase, cycle)

    def read_batch(self, places: Sequence[int]) -> Batch:
        """Read the rows at some places of the run, at least one. Raises DataError on damage."""
        rows, epochs, keys = [], [], []
        for place in places:
            name, index = self.locate(place)
            dataset, number = self.datasets[name], self.numbers[name]
            epoch, row = row_at(index, dataset.rows, self.seed, number)
            rows.append(dataset.row(row))
            epochs.append(epoch)
            keys.append(row_key(row, number))
        return join_rows(rows, places, epochs, keys)


def row_key(row: int, source: int) -> int:
    """Return the number under which a row of a source draws its noise; of source 0 its own."""
    return source << 40 | row


@lru_cache(maxsize=8)
def cycle_order(
    slots: tuple[int, ...], numbers: tuple[int, ...], seed: int, phase: int, cycle: int
) -> Counts:
    """Return the source of each place of a cycle: each at even distances, from a start drawn."""
    keys = []
    for count, number in zip(slots, numbers, strict=True):
        start = unit_interval(random_words(seed, STREAM_MIXTURE, phase, cycle, number))
        keys.append((np.arange(count) + start) / count)
    order = np.argsort(np.concatenate(keys), kind="stable")
    return np.repeat(np.arange(len(slots)), slots)[order]
