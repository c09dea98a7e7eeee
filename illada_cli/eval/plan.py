"""`--dry-run`: what exams will take, from their prompts alone, or from some items measured."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from illada_cli.eval.exams import by_rule
from illada_cli.eval.options import EvalOptions, rules_of
from illada_cli.ui import duration, si, table
from illada_core.benchmark.answering import Engine
from illada_core.benchmark.answers import open_answers
from illada_core.benchmark.cost import Estimate, estimate
from illada_core.benchmark.exam import Exam, asks_of
from illada_core.benchmark.examination import ask_all, keys_of
from illada_core.errors import UsageError
from illada_core.inference.checkpoint import Checkpoint
from illada_core.training.recipe.plan import DEVICE_KINDS

ASSUMED_SHARE = 0.3  # of a device's peak, where nothing was measured
HEAD = ("task", "items", "asks", "prompt tokens", "forwards", "token-forwards", "FLOP", "time")


def tell_plan(
    exams: Sequence[Exam], checkpoint: Checkpoint, engine: Engine | None, asked: EvalOptions
) -> None:
    """Write what each exam takes at most; with an engine, the time of some items, carried on."""
    rows = [HEAD]
    if asked.compare_rules:
        rules = rules_of(asked.compare_rules)
        exams = [exam for rule in rules for exam in by_rule(exams, rule)]
    for exam in exams:
        name = f"{exam.name}, {exam.scoring.rule}" if asked.compare_rules else exam.name
        found = estimate(asks_of(exam, checkpoint), checkpoint.config)
        seconds = seconds_of(exam, found, engine, asked)
        facts = {"task": name, "items": len(exam.records), **vars(found), "seconds": seconds}
        if asked.as_json:
            print(json.dumps(facts))
            continue
        rows.append(
            (
                name,
                f"{len(exam.records):,}",
                f"{found.asks:,}",
                f"{found.prompt_tokens:,}",
                f"{found.forwards:,}",
                si(found.token_forwards).strip(),
                f"{found.flops:.2g}",
                "" if seconds is None else duration(seconds),
            )
        )
    if not asked.as_json:
        print(table(rows))


def seconds_of(
    exam: Exam, found: Estimate, engine: Engine | None, asked: EvalOptions
) -> float | None:
    """Return how long an exam takes: by measured items, or by a device's peak; None unknown."""
    if engine is not None:
        assert asked.probe is not None
        return probe(exam, engine, asked.probe) * len(exam.records)
    if asked.plan_device is None:
        return None
    kind = DEVICE_KINDS.get(asked.plan_device)
    if kind is None:
        raise UsageError(
            f"--plan-device {asked.plan_device} is not known", f"known: {', '.join(DEVICE_KINDS)}"
        )
    return found.flops / (ASSUMED_SHARE * kind.peak_flops)


def probe(exam: Exam, engine: Engine, count: int) -> float:
    """Return the seconds that an item takes, from `count` items spread over all."""
    step = max(1, len(exam.records) // count)
    chosen = replace(exam, records=exam.records[::step][:count])
    with TemporaryDirectory() as folder, open_answers(Path(folder)) as answers:
        started = time.perf_counter()
        keys = keys_of([chosen], engine)
        for _ in ask_all([chosen], keys, engine, answers, lambda: False):
            pass
        return (time.perf_counter() - started) / len(chosen.records)
