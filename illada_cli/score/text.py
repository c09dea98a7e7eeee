"""A text in, and a bound on its perplexity out, by way of windows that fit the context."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from illada_cli.score.requests import Preparation
from illada_cli.score.run import How, Work, counted, rule_for
from illada_cli.signals import stop_on_signals
from illada_cli.ui import Talk
from illada_core.errors import DataError, UsageError

if TYPE_CHECKING:
    from illada_core.evaluation.perplexity import TextBound
    from illada_core.evaluation.questions import Reader
    from illada_core.evaluation.scoring import Item, Scores


def cut_text(
    source: str, how: Preparation, window: int | None, stride: int | None
) -> tuple[list[Item], int]:
    """Read a text and cut it in windows; return them and the text's size in bytes."""
    import numpy as np

    from illada_core.evaluation.perplexity import windows

    context = how.checkpoint.config.max_length
    if window and window > context:
        raise UsageError(f"--window {window:,} is more than the context of {context:,}")
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {source}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text (byte {error.start})") from None
    ids = np.array(how.checkpoint.needed_tokenizer().encode(text), dtype=np.int64)
    if not len(ids):
        raise DataError(f"{source} holds no text")
    prefix = how.checkpoint.encode_text("", how.bos)
    window = window or context
    return list(windows(ids, window, stride or window, prefix)), len(data)


def score_text(
    items: Sequence[Item], text_bytes: int, how: How, reader: Reader, talk: Talk
) -> TextBound:
    """Bound the perplexity of a text cut in windows. Raises StoppedBySignal."""
    from illada_core.evaluation.perplexity import TextBound
    from illada_core.evaluation.scoring import score

    done: list[Scores] = []
    work = Work()
    sizes = [len(item.choices[0]) for item in items]
    with (
        stop_on_signals("stopping after this batch") as stop,
        talk.progress("scoring", sum(sizes), "tok") as advance,
    ):
        for step in score(iter(items), rule_for(how), reader):
            work.add(step)
            advance(sum(sizes[len(done) : len(done) + len(step.scores)]))
            done += step.scores
            if stop.requested():
                break
    stop.leave(f"stopped after {len(done)} of {counted(len(items), 'window')}")
    talk.say(work.sentence())
    return TextBound.of(done, sum(sizes), text_bytes)


def bound_fields(bound: TextBound, how: How) -> dict[str, float | int | None]:
    """Return the JSON object of a text's bound."""
    return {
        "perplexity": bound.perplexity,
        "perplexity_standard_error": bound.perplexity_error,
        "bits_per_byte": bound.bits_per_byte,
        "bits_per_byte_standard_error": bound.bits_per_byte_error,
        "nats": bound.nats,
        "nats_standard_error": bound.standard_error,
        "tokens": bound.tokens,
        "bytes": bound.bytes,
        "windows": bound.windows,
        "samples": how.samples,
    }


def bound_table(bound: TextBound) -> str:
    """Return a text's bound for a person."""
    rows = [
        ("perplexity", bound.perplexity, bound.perplexity_error),
        ("bits per byte", bound.bits_per_byte, bound.bits_per_byte_error),
    ]
    return "\n".join(
        f"{name:14} at most {value:.4f}" + (f" ± {error:.4f}" if error is not None else "")
        for name, value, error in rows
    )
