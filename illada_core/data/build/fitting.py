"""A chat example as ids: ended by one eos, made to fit a row where it does not, padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from illada_core.arrays import Counts, Ids
from illada_core.data.store.turns import Turns

# Of so many first tokens, which are text that people wrote as prompt; others are the frame.
Asked: TypeAlias = Callable[[int], NDArray[np.bool_]]


@dataclass(frozen=True)
class ChatFormat:
    """How examples become documents.

    Those over `longest` tokens (None: any number will do) are left out ("drop"), or made to fit
    ("cut") as in `make_fit`. `eos_padding` repeats eos until the length is a multiple of it, as
    LLaDA pads responses; 0 does not.
    """

    longest: int | None = None
    on_long: Literal["drop", "cut"] | None = None
    eos_padding: int = 0


@dataclass(frozen=True, eq=False)
class Example:
    """The ids of an example, and the turn of each."""

    ids: Ids
    turns: Turns

    def part(self, kept: slice | NDArray[np.bool_]) -> Example:
        """Return an example of some of the tokens."""
        return Example(self.ids[kept], self.turns[kept])

    def append_eos(self, count: int, eos_id: int, turn: int) -> Example:
        """Return an example with more eos, which belong to a response."""
        return Example(
            np.append(self.ids, np.full(count, eos_id, np.uint32)),
            np.append(self.turns, np.full(count, turn, np.uint16)),
        )


def end_with_eos(example: Example, eos_id: int, turn: int) -> Example:
    """Return an example that ends with eos; one that has to be added belongs to the given turn."""
    return example if int(example.ids[-1]) == eos_id else example.append_eos(1, eos_id, turn)


def make_fit(example: Example, asked: Asked, longest: int, eos_id: int) -> Example | None:
    """Cut an example to at most `longest` tokens so that it still ends with a whole response.

    It keeps as many exchanges from the beginning as fit. Where the first does not fit, the
    beginning of what was `asked` goes, and the frame stays. None if nothing of it would be left.
    """
    first, *others = (
        end_with_eos(example.part(slice(stop)), eos_id, turn)
        for turn, stop in enumerate(response_stops(example.turns).tolist(), 1)
    )
    for kept in (*reversed(others), first):
        if len(kept.ids) <= longest:
            return kept
    asked_at = np.flatnonzero(asked(len(first.ids)) & (first.turns == 0))
    excess = len(first.ids) - longest
    if excess >= len(asked_at):
        return None
    stays = np.ones(len(first.ids), bool)
    stays[asked_at[:excess]] = False
    return first.part(stays)


def response_stops(turns: Turns) -> Counts:
    """Return where each response ends."""
    last = np.zeros(int(turns.max()) + 1, np.int64)
    np.maximum.at(last, turns, np.arange(1, len(turns) + 1))
    return last[1:]


def pad(example: Example, eos_id: int, chat: ChatFormat) -> Example:
    """Repeat the eos of an example up to the next multiple of the padding, at most to a row."""
    if not chat.eos_padding:
        return example
    count = -len(example.ids) % chat.eos_padding
    if chat.longest is not None:
        count = min(count, chat.longest - len(example.ids))
    return example.append_eos(count, eos_id, int(example.turns[-1]))
