"""Portions: which of many pieces of work falls to the i-th of n processes (`--part i/n`).

The pieces are those of a dataset, whoever does them; a portion only says who. Nothing that is
written depends on it (law 1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Self

from illada_core.errors import UsageError

WRITTEN = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True)
class Portion:
    """The portion with number `index` of `count`, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `i/n`. Raises UsageError unless i is below n."""
        found = WRITTEN.fullmatch(text)
        index, count = map(int, found.groups()) if found else (0, 0)
        if not index < count:
            raise UsageError(
                f"--part wants i/n, not {text!r}", "the parts are counted from 0: 0/4 to 3/4"
            )
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, weights: Sequence[int]) -> list[int]:
        """Return the numbers of the pieces that fall to this portion, rising.

        The heaviest go first, each to the portion that has the least so far: so no process waits
        long for the others.
        """
        loads = [(0, index) for index in range(self.count)]
        heapify(loads)
        own = []
        for number in sorted(range(len(weights)), key=lambda each: -weights[each]):
            load, index = loads[0]
            heapreplace(loads, (load + max(weights[number], 1), index))
            if index == self.index:
                own.append(number)
        return sorted(own)


WHOLE = Portion(0, 1)
