"""The work of `illada score` on choices: items through a rule, verdicts out in their order."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from illada_cli.jsonl import IDLE_S, BeforeFault
from illada_cli.ledger import Ledger, open_ledger
from illada_cli.opening import open_asked
from illada_cli.score.input import Items, read_items
from illada_cli.score.options import ScoreOptions, items_source
from illada_cli.score.view import accuracy_lines, plain_line, plain_table
from illada_cli.signals import stop_on_signals
from illada_cli.ui import Talk, plural, si
from illada_core.errors import UsageError
from illada_core.evaluation.items import (
    ChoiceItem,
    ScoringSettings,
    complete_scoring,
    rule_for,
    tail_ids,
)
from illada_core.evaluation.measures import Tally
from illada_core.evaluation.questions import Reader, reader_for
from illada_core.evaluation.scoring import Rule, Scored, Scorer, Scores
from illada_core.evaluation.verdicts import Verdict, judge
from illada_core.inference.checkpoint import Checkpoint, choose_device
from illada_core.model.transformer import Transformer
from illada_core.model.weights import digest_of_weights

KINDS_OF_SCORES = {
    "exact": "exact log-likelihoods",
    "likelihood": "bounds on log-likelihoods",
    "confidence": "confidence, which bounds nothing",
    "one-shot": "one pass, which bounds nothing",
}
ITEM_SAMPLES, STOP_GAP = 128, 4.0


def score_choices(asked: ScoreOptions, talk: Talk) -> None:
    """Score the choices of all items, and write which is best."""
    checkpoint = open_asked(asked, talk)
    for notice in checkpoint.notices:
        talk.warn(notice)
    settings = ScoringSettings(
        rule=asked.rule,
        normalize=asked.normalize or "sum",
        delimiter=asked.delimiter or "",
        visible_eos=asked.visible_eos,
        pick_only=asked.pick_only,
        samples=asked.samples or ITEM_SAMPLES,
        stop_gap=STOP_GAP if asked.stop_gap is None else asked.stop_gap,
        cfg=asked.cfg or 0.0,
        seed=asked.seed,
    )
    settings = complete_scoring(settings, checkpoint)
    refuse_other_rule(asked, settings)
    rule = rule_for(settings, checkpoint)
    items = read_items(asked, checkpoint, settings, talk)
    device = choose_device(asked.device)
    weights = checkpoint.load(device, asked.dtype, asked.quantize)
    reader = reader_for(weights, checkpoint.mask_id, settings.cfg, device, asked.batch_tokens)
    named = named_settings(settings, checkpoint, weights)
    keep = asked.ledger
    opened = open_ledger(keep, named, asked.fresh, fault_of) if keep else nullcontext()
    with opened as ledger:
        run = ItemRun(ledger, line_writer(asked))
        run.run(items, rule, reader, talk)
    run.tell(items, settings, talk)


def refuse_other_rule(asked: ScoreOptions, settings: ScoringSettings) -> None:
    """Raise UsageError for options about a rule that the model does not allow."""
    given = {
        f"--rule {asked.given_rule}": asked.given_rule not in (None, "exact"),
        "--visible-eos": asked.visible_eos,
        "--pick-only": asked.pick_only,
    }
    named = [name for name, is_given in given.items() if is_given]
    if settings.rule == "exact" and named:
        raise UsageError(
            f"the model writes from left to right and is scored exactly: {named[0]} does not go "
            "with it"
        )


def line_writer(asked: ScoreOptions) -> Callable[[Verdict], str]:
    """Return how a verdict is written: as JSON, as a table of its choices, or as one line."""
    if asked.as_json or asked.output == "-":
        return lambda verdict: json.dumps(verdict.fields())
    if items_source(asked) is None and asked.choices:
        return partial(plain_table, choices=asked.choices)
    return plain_line


def named_settings(settings: ScoringSettings, checkpoint: Checkpoint, weights: Transformer) -> str:
    """Name all that decides a score: equal names, equal scores. The form is that of old files."""
    named: dict[str, Any] = {
        "rule": settings.rule,
        "normalize": settings.normalize,
        "tail": tail_ids(settings, checkpoint),
        "samples": settings.samples,
        "stop_gap": settings.stop_gap,
        "cfg": settings.cfg,
        "seed": settings.seed,
        "mask_id": checkpoint.mask_id,
        "dtype": str(weights.compute_dtype),
    }
    if settings.pick_only:  # named only where it is on, so that older names stay what they were
        named["pick_only"] = True
    named |= checkpoint.named_reading
    told = ", ".join(f"{name}={value!r}" for name, value in named.items())
    return f"How({told}) {digest_of_weights(weights)}"


def fault_of(fields: dict[str, Any]) -> str | None:
    """Say why a line of an output file is no verdict, None if it is one."""
    if isinstance(fields.get("picks"), dict):
        return None
    if "scores" in fields:
        return "written by an earlier illada, without the sums and sizes of all measures"
    return "not written by illada score -o"


def named_item(asked: ChoiceItem) -> list[Any]:
    """Name an item, its answer and id, for its key."""
    item = asked.item
    ids = [ids.tolist() for ids in (item.prompt, *item.choices, *item.contexts)]
    return [ids, asked.request.answer, asked.request.id]


class ItemRun:
    """Items on their way through a rule, and their verdicts on the way out, in order.

    Verdicts go to the ledger, which may have some already, or as lines to standard output.
    """

    def __init__(self, ledger: Ledger | None, line_of: Callable[[Verdict], str]) -> None:
        self.ledger, self.line_of = ledger, line_of
        self.waiting: deque[ChoiceItem] = deque()
        self.tally, self.work = Tally(), Work()
        self.cut = self.apart = self.draws = self.unknown = 0

    def run(self, items: Items, rule: Rule, reader: Reader, talk: Talk) -> None:
        """Score all that comes before a bad line, which is an error then.

        Raises StoppedBySignal after what is finished was flushed.
        """
        sound = BeforeFault(items.arriving)
        arriving, scorer, more_may_come = iter(sound), Scorer(reader), True
        with (
            stop_on_signals("stopping after this batch") as stop,
            replace(talk, quiet=talk.quiet or items.total == 1).progress(
                "scoring", items.total, "item"
            ) as advance,
        ):
            while (more_may_come or scorer.under_way) and not stop.requested():
                more_may_come = more_may_come and self.admit(arriving, scorer, rule)
                if not scorer.under_way:
                    time.sleep(IDLE_S if more_may_come else 0.0)
                    continue
                for batch in scorer.step():
                    advance(self.take(batch))
                    if stop.requested():
                        break
            resume = "run the same command again to go on" if self.ledger else None
            stop.leave(f"stopped after {plural(self.tally.items, 'item')}", resume)
        sound.raise_fault()
        if self.ledger:
            self.ledger.refuse_rest(self.tally.items, "item")

    def admit(self, arriving: Iterator[ChoiceItem | None], scorer: Scorer, rule: Rule) -> bool:
        """Bring in items while there is room; return whether more may come later."""
        while scorer.has_room:
            try:
                item = next(arriving)
            except StopIteration:
                return False
            if item is None:
                return True
            self.cut += item.cut > 0
            self.apart += bool(item.apart)
            self.unknown += item.unknown > 0
            if self.ledger and self.ledger.knows_more:
                fields = self.ledger.recall(named_item(item))
                self.tally.add(item.request.answer, fields["picks"])
            else:
                self.waiting.append(item)
                scorer.add(item.item, rule)
        return True

    def take(self, batch: Scored) -> int:
        """Write what a batch brought; return the number of items that are finished by it."""
        self.work.add(batch)
        for scores in batch.scores:
            self.finish(self.waiting.popleft(), scores)
        if batch.scores and not self.ledger:
            sys.stdout.flush()
        return len(batch.scores)

    def finish(self, item: ChoiceItem, scores: Scores) -> None:
        """Write the verdict of an item."""
        verdict = judge(item, scores)
        if self.ledger:
            self.ledger.write(verdict.fields(), named_item(item))
        else:
            print(self.line_of(verdict))
        self.tally.add(verdict.answer, verdict.picks)
        self.draws += scores.samples or 0

    def tell(self, items: Items, settings: ScoringSettings, talk: Talk) -> None:
        """Say how it went: accuracy, cost, and what was out of the ordinary."""
        if self.tally.items > 1 or self.tally.answered:
            for line in accuracy_lines(self.tally, settings.normalize):
                talk.say(line)
            talk.say(f"  choices by {KINDS_OF_SCORES[settings.rule]}")
        talk.say(self.work.sentence())
        recalled = self.ledger.recalled if self.ledger else 0
        scored = self.tally.items - recalled
        if self.draws:
            mean = self.draws / scored
            talk.say(f"{mean:.3g} of {settings.samples} masks an item on average")
        if recalled:
            talk.say(f"{plural(recalled, 'item')} had been scored before")
        if items.lines and items.lines.skipped:
            talk.say(f"{plural(items.lines.skipped, 'line')} skipped")
        if self.cut:
            talk.warn(f"{plural(self.cut, 'prompt')} cut on the left to fit the context")
        if self.unknown:
            talk.warn(f"{plural(self.unknown, 'item')} with letters that the vocabulary lacks")
        if self.apart:
            talk.warn(
                f"{plural(self.apart, 'item')} with choices that melt into the last token of their "
                "prompt: these choices were encoded apart"
            )


@dataclass
class Work:
    """What went through the model."""

    forwards: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, batch: Scored) -> None:
        self.forwards += batch.forwards
        self.tokens += batch.tokens

    def sentence(self) -> str:
        seconds = time.monotonic() - self.started
        rate = f"{si(self.tokens / max(seconds, 1e-6))}tok/s through the model"
        return f"{plural(self.forwards, 'forward')}, {seconds:.1f} s, {rate}"
