"""The work of `illada score --text`: a text in, a bound on its perplexity out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from illada_cli.opening import open_asked
from illada_cli.score.options import ScoreOptions
from illada_cli.score.run import Work
from illada_cli.signals import stop_on_signals
from illada_cli.ui import Talk, plural
from illada_core.errors import DataError, UsageError
from illada_core.evaluation.items import ScoringSettings, rule_for
from illada_core.evaluation.perplexity import WINDOW_SAMPLES, TextBound, cut_text
from illada_core.evaluation.questions import Reader, reader_for
from illada_core.evaluation.scoring import Item, Rule, Scores, score
from illada_core.inference.checkpoint import choose_device


def score_text(asked: ScoreOptions, talk: Talk) -> None:
    """Bound the perplexity of a text, and print it."""
    checkpoint = open_asked(asked, talk)
    for notice in checkpoint.notices:
        talk.warn(notice)
    text, text_bytes = read_whole(asked.text or "-")
    items = cut_text(text, checkpoint, asked.window, asked.stride, asked.bos)
    settings = ScoringSettings(
        rule="likelihood",
        samples=asked.samples or WINDOW_SAMPLES,
        cfg=asked.cfg or 0.0,
        seed=asked.seed,
    )
    device = choose_device(asked.device)
    weights = checkpoint.load(device, asked.dtype, asked.quantize)
    reader = reader_for(weights, checkpoint.mask_id, settings.cfg, device, asked.batch_tokens)
    sizes = [len(item.choices[0]) for item in items]
    scores = score_windows(items, sizes, rule_for(settings, checkpoint), reader, talk)
    bound = TextBound.of(scores, sum(sizes), text_bytes)
    print(json.dumps(bound.fields()) if asked.as_json else bound_table(bound))


def read_whole(source: str) -> tuple[str, int]:
    """Return a text and its size in bytes. Raises UsageError or DataError where there is none."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {source}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text (byte {error.start})") from None
    if not text:
        raise DataError(f"{source} holds no text")
    return text, len(data)


def score_windows(
    items: Sequence[Item], sizes: Sequence[int], rule: Rule, reader: Reader, talk: Talk
) -> list[Scores]:
    """Score the windows of a text, of `sizes` tokens each. Raises StoppedBySignal."""
    done: list[Scores] = []
    work = Work()
    with (
        stop_on_signals("stopping after this batch") as stop,
        talk.progress("scoring", sum(sizes), "tok") as advance,
    ):
        for batch in score(items, rule, reader):
            work.add(batch)
            advance(sum(sizes[len(done) : len(done) + len(batch.scores)]))
            done += batch.scores
            if stop.requested():
                break
    stop.leave(f"stopped after {len(done)} of {plural(len(items), 'window')}")
    talk.say(work.sentence())
    return done


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
