"""Bound the perplexity of a text: the likelihood bound of its windows, summed.

Text longer than a window is scored in pieces of `stride` tokens, each given the tokens before it
that its window still holds; by the chain rule the sum bounds the likelihood of the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from illada_core.errors import DataError, UsageError
from illada_core.evaluation.scoring import Item, Kind, Scores
from illada_core.inference.checkpoint import Checkpoint

WINDOW_SAMPLES = 16  # masks drawn for each window where nobody says how many


@dataclass(frozen=True)
class CutText:
    """The windows of a text as items of one choice, and the bytes of what is scored of it."""

    items: list[Item]
    bytes: int

    @property
    def sizes(self) -> list[int]:
        """How many tokens of each window are scored."""
        return [len(item.choices[0]) for item in self.items]


def cut_text(
    text: str, checkpoint: Checkpoint, window: int | None, stride: int | None, bos: bool | None
) -> CutText:
    """Cut a text in windows that fit the context (None: as long as that, no overlap).

    Where the row before a token speaks of it and no bos stands in front, the first token is given.
    Raises DataError for a text with nothing to score, UsageError for a window that is longer than
    the context.
    """
    context = checkpoint.config.max_length
    if window and window > context:
        raise UsageError(f"--window {window:,} is more than the context of {context:,}")
    tokenizer = checkpoint.require_tokenizer()
    ids = tokenizer.encode(text)
    if not ids:
        raise DataError("the text is empty: it has no tokens")
    window, prefix, given_bytes = window or context, checkpoint.encode_text("", bos), 0
    if checkpoint.config.shift and not prefix:
        prefix, ids = ids[:1], ids[1:]
        given_bytes = len(tokenizer.decode(prefix).encode())
        if not ids:
            raise DataError("the text is one token, and no row of logits speaks of a text's first")
    scored_ids = np.array(ids, dtype=np.int64)
    items = list(windows(scored_ids, window, stride or window, prefix))
    return CutText(items, len(text.encode()) - given_bytes)


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
    """The negative log-likelihood of a text, or a bound above it, and its standard error (nats).

    `kind` tells which: "exact" or "bound".
    """

    nats: float
    standard_error: float | None
    tokens: int
    bytes: int
    windows: int
    samples: int | None = None
    kind: Kind = "bound"

    @staticmethod
    def of(scores: Sequence[Scores], tokens: int, text_bytes: int) -> "TextBound":
        """Add up the windows; their draws are independent, so their variances add."""
        is_exact = bool(scores) and all(window.kind == "exact" for window in scores)
        none = (0.0,) if is_exact else (None,)
        errors = [error for window in scores for error in window.standard_errors or none]
        known = [error for error in errors if error is not None]
        total = sqrt(sum(error**2 for error in known)) if len(known) == len(errors) else None
        return TextBound(
            nats=-sum(window.sums[0] for window in scores),
            standard_error=total,
            tokens=tokens,
            bytes=text_bytes,
            windows=len(scores),
            samples=scores[0].samples if scores else None,
            kind="exact" if is_exact else "bound",
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

    def fields(self) -> dict[str, float | int | str | None]:
        """Return the JSON object of this bound."""
        return {
            "kind": self.kind,
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
