"""By what choices are compared, and how often the pick is right, each with its interval.

A sum of log-probabilities is compared as it is (`acc` of the harnesses) or over the size of its
choice: in tokens, in UTF-8 bytes, or in characters without a leading space, which is what
lm-evaluation-harness divides by for its `acc_norm`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from illada_core.evaluation.scoring import wilson_interval

Normalize = Literal["sum", "byte", "character", "token"]
NORMALIZES: tuple[Normalize, ...] = get_args(Normalize)
NAMES: dict[Normalize, str] = {
    "sum": "acc, by sums",
    "byte": "acc_norm, over bytes",
    "character": "acc_norm, over characters (lm-evaluation-harness)",
    "token": "acc, per token",
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of an item's choices; None where choices are only ids.

    `bytes` are those of the choices as they were given, `characters` lack one leading space.
    """

    tokens: tuple[int, ...]
    bytes: tuple[int, ...] | None = None
    characters: tuple[int, ...] | None = None

    def divisors(self, normalize: Normalize) -> tuple[float, ...] | None:
        """Return what to divide each choice's sum by; None where that is not known."""
        sizes = {
            "sum": (1,) * len(self.tokens),
            "byte": self.bytes,
            "character": self.characters,
            "token": self.tokens,
        }[normalize]
        return None if sizes is None else tuple(map(float, sizes))


def text_sizes(texts: Sequence[str], tokens: Sequence[int]) -> Sizes:
    """Return the sizes of choices that have a text."""
    return Sizes(
        tokens=tuple(tokens),
        bytes=tuple(max(1, len(text.encode())) for text in texts),
        characters=tuple(max(1, len(text.removeprefix(" "))) for text in texts),
    )


@dataclass(frozen=True)
class Accuracy:
    """How many of the items with an answer were right, and the 95 % interval of their share."""

    right: int
    answered: int

    @property
    def share(self) -> float:
        return self.right / self.answered

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.right, self.answered)


@dataclass
class Tally:
    """Items scored, and by each measure how many of those with an answer were right."""

    items: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)

    def add(self, answer: int | None, picks: Mapping[Normalize, int | None]) -> None:
        """Count an item by its picks; None is a pick that is not known."""
        self.items += 1
        for name, picked in picks.items():
            if answer is not None and picked is not None:
                self.answered[name] += 1
                self.right[name] += picked == answer

    def accuracy(self, normalize: Normalize) -> Accuracy | None:
        """Return the accuracy by a measure; None where no item has both answer and pick."""
        answered = self.answered[normalize]
        return Accuracy(self.right[normalize], answered) if answered else None
