"""Bound the perplexity of a text: the likelihood bound of its windows, summed.

Text longer than a window is scored in pieces of `stride` tokens, each given the tokens before it
that its window still holds; by the chain rule the sum bounds the likelihood of the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from illada_core.evaluation.scoring import Item, Scores


def windows(ids_T: np.ndarray, window: int, stride: int, prefix: Sequence[int]) -> Iterator[Item]:
    """Yield one single-choice item for each piece; `prefix` (a bos) stands before the text.

    A piece with what precedes it has at most `window` tokens, `prefix` included.
    """
    stride = min(stride, window - len(prefix))
    text_T = np.concatenate((np.array(prefix, dtype=np.int64), ids_T.astype(np.int64)))
    for number, start in enumerate(range(len(prefix), len(text_T), stride)):
        piece = text_T[start : start + stride]
        before = text_T[max(0, start + len(piece) - window) : start]
        yield Item(before, (piece,), (1.0,), noise_key=number)


@dataclass(frozen=True)
class TextBound:
    """An upper bound on the negative log-likelihood of a text, and its standard error (nats)."""

    nats: float
    standard_error: float | None
    tokens: int
    bytes: int
    windows: int

    @staticmethod
    def of(scores: Sequence[Scores], tokens: int, text_bytes: int) -> "TextBound":
        """Add up the windows; their draws are independent, so their variances add."""
        errors = [error for window in scores for error in window.standard_errors or (None,)]
        known = [error for error in errors if error is not None]
        total = sqrt(sum(error**2 for error in known)) if len(known) == len(errors) else None
        return TextBound(-sum(s.sums[0] for s in scores), total, tokens, text_bytes, len(scores))

    @property
    def perplexity(self) -> float:
        return exp(self.nats / self.tokens)

    @property
    def perplexity_error(self) -> float | None:
        if self.standard_error is None:
            return None
        return self.perplexity * self.standard_error / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / log(2) / self.bytes

    @property
    def bits_per_byte_error(self) -> float | None:
        return None if self.standard_error is None else self.standard_error / log(2) / self.bytes
