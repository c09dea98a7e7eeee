"""The work of `illada score`: items through a rule in order, or a text window by window."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from illada_cli.jsonl import BeforeFault
from illada_cli.score.requests import Items, Prepared
from illada_cli.score.verdicts import Ledger, Tally, Verdict, verdict
from illada_cli.signals import stop_on_signals
from illada_cli.ui import Talk, si
from illada_core.errors import UsageError

if TYPE_CHECKING:
    from illada_core.evaluation.questions import Reader
    from illada_core.evaluation.scoring import Item, Progress, Rule, Scores
    from illada_core.model.transformer import Transformer

IDLE_S = 0.02
SAMPLED_WEIGHTS = 64


@dataclass(frozen=True)
class How:
    """What decides a score beside the weights and the ids."""

    rule: str
    normalize: str
    tail: tuple[int, ...]
    samples: int
    stop_gap: float
    cfg: float
    seed: int
    mask_id: int
    dtype: str


def rule_for(how: How) -> Rule:
    """Return the rule that scores one item."""
    from illada_core.evaluation import scoring

    masking = scoring.Masking(how.mask_id, how.tail)
    if how.rule == "confidence":
        return partial(scoring.confidence, masking=masking)
    if how.rule == "one-shot":
        return partial(scoring.one_shot, masking=masking)
    return partial(
        scoring.likelihood,
        masking=masking,
        samples=how.samples,
        seed=how.seed,
        sure=how.stop_gap,
    )


def named_settings(how: How, model: Transformer) -> str:
    """Name settings and weights, by a sample of every parameter: equal names, equal scores."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.flatten()[:SAMPLED_WEIGHTS].float().cpu().numpy().tobytes())
    return f"{how} {digest.hexdigest()}"


class ItemRun:
    """Items on their way through a rule, and their verdicts on the way out, in order.

    Verdicts go to the ledger, which may have some already, or as lines to standard output.
    """

    def __init__(self, how: How, ledger: Ledger | None, line_of: Callable[[Verdict], str]) -> None:
        self.how, self.ledger, self.line_of = how, ledger, line_of
        self.waiting: deque[Prepared] = deque()
        self.tally, self.work = Tally(), Work()
        self.recalled = self.cut = self.draws = 0

    def unscored(self, arriving: Iterator[Prepared | None]) -> Iterator[Item | None]:
        """Return the items that are still to be scored, None for one that has not come yet."""
        for prepared in arriving:
            if prepared is None:
                yield None
                continue
            self.cut += prepared.cut > 0
            if self.ledger and self.recalled < len(self.ledger.finished):
                self.tally.add(self.ledger.recall(self.recalled, prepared))
                self.recalled += 1
            else:
                self.waiting.append(prepared)
                yield prepared.item

    def run(self, items: Items, reader: Reader, talk: Talk) -> None:
        """Score all that comes before a bad line, which is an error then.

        Raises StoppedBySignal after what is finished was flushed.
        """
        from illada_core.evaluation.scoring import score

        sound = BeforeFault(items.arriving)
        with (
            stop_on_signals("stopping after this batch") as stop,
            replace(talk, quiet=talk.quiet or items.total == 1).progress(
                "scoring", items.total, "items"
            ) as advance,
        ):
            for step in score(self.unscored(iter(sound)), rule_for(self.how), reader):
                self.work.add(step)
                for scores in step.scores:
                    self.finish(self.waiting.popleft(), scores)
                if step.scores:
                    (self.ledger.file if self.ledger else sys.stdout).flush()
                    advance(len(step.scores))
                if stop.requested():
                    break
                if step.is_idle:
                    time.sleep(IDLE_S)
            resume = "run the same command again to go on" if self.ledger else None
            stop.leave(f"stopped after {counted(self.tally.items, 'item')}", resume)
        sound.raise_fault()
        if self.ledger and self.recalled < len(self.ledger.finished):
            raise UsageError(
                f"{self.ledger.path} holds {counted(len(self.ledger.finished), 'line')}, more than "
                f"the {counted(self.tally.items, 'item')} here",
                "--fresh replaces the file, -o names another",
            )

    def finish(self, prepared: Prepared, scores: Scores) -> None:
        """Write the verdict of an item."""
        fields = verdict(prepared, scores)
        if self.ledger:
            self.ledger.write(fields, prepared)
        else:
            print(self.line_of(fields))
        self.tally.add(fields)
        self.draws += scores.samples or 0

    def tell(self, items: Items, talk: Talk) -> None:
        """Say how it went: accuracy, cost, and what was out of the ordinary."""
        if self.tally.items > 1 or self.tally.answered:
            talk.say(self.tally.sentence())
        talk.say(self.work.sentence())
        scored = self.tally.items - self.recalled
        if self.draws:
            mean = self.draws / scored
            talk.say(f"{mean:.3g} of {self.how.samples} masks an item on average")
        if self.recalled:
            talk.say(f"{counted(self.recalled, 'item')} had been scored before")
        if items.lines and items.lines.skipped:
            talk.say(f"{counted(items.lines.skipped, 'line')} skipped")
        if self.cut:
            talk.warn(f"{counted(self.cut, 'prompt')} cut on the left to fit the context")


@dataclass
class Work:
    """What went through the model."""

    forwards: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, step: Progress) -> None:
        self.forwards += step.forwards
        self.tokens += step.tokens

    def sentence(self) -> str:
        seconds = time.monotonic() - self.started
        rate = self.tokens / max(seconds, 1e-6)
        return f"{counted(self.forwards, 'forward')}, {seconds:.1f} s, {si(rate)}tok/s"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
