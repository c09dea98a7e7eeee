"""Bound the perplexity of a text: the likelihood bound of its windows, summed.

Text longer than a window is scored in pieces of `stride` tokens, each given the tokens before it
that its window still holds; by the chain rule the sum bounds the likelihood of the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from illada_core.errors import DataError, UsageError
from illada_core.evaluation.scoring import Item, Scores
from illada_core.inference.checkpoint import Checkpoint

WINDOW_SAMPLES = 16  # masks drawn for each window where nobody says how many


def cut_text(
    text: str, checkpoint: Checkpoint, window: int | None, stride: int | None, bos: bool | None
) -> list[Item]:
    """Cut a text in windows that fit the context (None: as long as that, no overlap).

    Raises DataError for an empty text, UsageError for a window that is longer than the context.
    """
    context = checkpoint.config.max_length
    if window and window > context:
        raise UsageError(f"--window {window:,} is more than the context of {context:,}")
    ids = np.array(checkpoint.require_tokenizer().encode(text), dtype=np.int64)
    if not len(ids):
        raise DataError("the text is empty: it has no tokens")
    window = window or context
    return list(windows(ids, window, stride or window, checkpoint.encode_text("", bos)))


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
    samples: int | None = None

    @staticmethod
    def of(scores: Sequence[Scores], tokens: int, text_bytes: int) -> "TextBound":
        """Add up the windows; their draws are independent, so their variances add."""
        errors = [error for window in scores for error in window.standard_errors or (None,)]
        known = [error for error in errors if error is not None]
        total = sqrt(sum(error**2 for error in known)) if len(known) == len(errors) else None
        return TextBound(
            nats=-sum(window.sums[0] for window in scores),
            standard_error=total,
            tokens=tokens,
            bytes=text_bytes,
            windows=len(scores),
            samples=scores[0].samples if scores else None,
        )

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

    def fields(self) -> dict[str, float | int | None]:
        """Return the JSON object of this bound."""
        return {
            "perplexity": self.perplexity,
            "perplexity_standard_error": self.perplexity_error,
            "bits_per_byte": self.bits_per_byte,
            "bits_per_byte_standard_error": self.bits_per_byte_error,
            "nats": self.nats,
            "nats_standard_error": self.standard_error,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "windows": self.windows,
            "samples": self.samples,
        }
