"""The work of `illada score --text`: a text in, its perplexity or a bound on it out."""

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
    """Measure or bound the perplexity of a text, and print it."""
    checkpoint = open_asked(asked, talk)
    for notice in checkpoint.notices:
        talk.warn(notice)
    if checkpoint.config.is_causal and (asked.samples or asked.given_rule == "likelihood"):
        raise UsageError(
            "--samples and --rule likelihood are about bounds, and this model's perplexity is exact"
        )
    cut = cut_text(read_whole(asked.text or "-"), checkpoint, asked.window, asked.stride, asked.bos)
    settings = ScoringSettings(
        rule="likelihood",
        samples=asked.samples or WINDOW_SAMPLES,
        cfg=asked.cfg or 0.0,
        seed=asked.seed,
    )
    device = choose_device(asked.device)
    weights = checkpoint.load(device, asked.dtype, asked.quantize)
    reader = reader_for(weights, checkpoint.mask_id, settings.cfg, device, asked.batch_tokens)
    rule = rule_for(settings, checkpoint)
    scores = score_windows(cut.items, cut.sizes, rule, reader, talk)
    bound = TextBound.of(scores, sum(cut.sizes), cut.bytes)
    print(json.dumps(bound.fields()) if asked.as_json else bound_table(bound))


def read_whole(source: str) -> str:
    """Return a text. Raises UsageError or DataError where there is none."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {source}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text (byte {error.start})") from None
    if not text:
        raise DataError(f"{source} holds no text")
    return text


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
    """Return a text's perplexity for a person, and whether it is exact or a bound."""
    kind = "exactly" if bound.kind == "exact" else "at most"
    rows = [
        ("perplexity", bound.perplexity, bound.perplexity_error),
        ("bits per byte", bound.bits_per_byte, bound.bits_per_byte_error),
    ]
    return "\n".join(
        f"{name:14} {kind} {value:.4f}"
        + (f" ± {error:.4f}" if error is not None and bound.kind == "bound" else "")
        for name, value, error in rows
    )
