"""The work of `illada eval`: everything asked, graded and written; the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illada_cli.eval.exams import build_exams, by_rule, harness_names
from illada_cli.eval.options import EvalOptions, rules_of
from illada_cli.eval.plan import tell_plan
from illada_cli.eval.shares import own_device, rank, wait_for_others, world
from illada_cli.eval.view import Shown, show
from illada_cli.opening import open_asked
from illada_cli.signals import stop_on_signals
from illada_cli.ui import Talk, plural
from illada_core.benchmark.answering import Engine
from illada_core.benchmark.answers import open_answers, remove_answers
from illada_core.benchmark.child import isolation, run_programs
from illada_core.benchmark.exam import Exam
from illada_core.benchmark.examination import (
    Share,
    ask_all,
    check_first,
    for_checkpoint,
    keys_of,
    missing,
    write_results,
)
from illada_core.benchmark.report import compare, rows_of
from illada_core.benchmark.results import Result
from illada_core.errors import UsageError
from illada_core.files import make_folder, read_json
from illada_core.inference.checkpoint import Checkpoint, choose_device


def run(asked: EvalOptions, talk: Talk) -> None:
    """Evaluate what the options ask for, or tell what it will take."""
    exams, foreign = build_exams(asked, talk), harness_names(asked, talk)
    checkpoint = open_asked(asked, talk)
    for notice in checkpoint.notices:
        talk.warn(notice)
    exams = [for_checkpoint(exam, checkpoint) for exam in exams]
    check_first(exams, checkpoint)
    check_programs(exams, asked, talk)
    if asked.compare_rules:
        check_rules(exams, checkpoint)
    if asked.dry_run and not asked.probe:
        tell_plan(exams, checkpoint, None, asked)
        return
    device = own_device(choose_device(asked.device))
    engine = Engine(
        checkpoint,
        checkpoint.load(device, asked.dtype, asked.quantize),
        device,
        asked.batch_tokens,
        asked.cache_tokens,
        asked.graphs,
    )
    if asked.dry_run:
        tell_plan(exams, checkpoint, engine, asked)
        return
    assert asked.output is not None
    make_folder(asked.output)
    if rank():
        answer_share(exams, engine, asked.output)
        return
    if asked.compare_rules is None:
        results = [evaluate(exams, engine, asked.output, asked, talk)] if exams else []
        facts = facts_of(checkpoint, asked)
        if foreign:
            from illada_cli.eval.harness import evaluate_harness

            results += evaluate_harness(foreign, engine, asked.output, asked, facts)
        tests = []
        if asked.baseline:
            from illada_cli.eval.baseline import evaluate_baseline

            others = [evaluate_baseline(exams, engine, asked, facts, talk)]
            tests = compare(results, others)
        show(Shown(rows_of(results), tests), asked, talk)
        return
    compare_rules(exams, engine, asked, talk)


def check_programs(exams: Sequence[Exam], asked: EvalOptions, talk: Talk) -> None:
    """Raise UsageError where programs would be run and nobody allowed it."""
    if asked.dry_run or not any(exam.benchmark.kind == "code" for exam in exams):
        return
    if not asked.run_code:
        name = next(exam.name for exam in exams if exam.benchmark.kind == "code")
        raise UsageError(
            f"{name} runs programs that the model writes",
            "--run-code allows it: in children with limits, best on a machine that can be spared",
        )
    if not isolation():
        talk.warn("unshare does not work here: programs are run without namespaces of their own")


def evaluate(
    exams: Sequence[Exam], engine: Engine, folder: Path, asked: EvalOptions, talk: Talk
) -> Result:
    """Ask, grade and write. Raises StoppedBySignal after what is finished was written."""
    keys = keys_of(exams, engine)
    share = Share(rank(), world())
    with open_answers(folder) as answers:
        total, known = len(missing(keys, answers)), len(answers.places)
        with (
            stop_on_signals("stopping after this batch") as stop,
            talk.progress("asking", total, "item") as advance,
        ):
            for count in ask_all(exams, keys, engine, answers, stop.requested, share):
                advance(count)
            wait_for_others(answers, missing(keys, answers), stop.requested)
            asked_now = plural(len(answers.places) - known, "answer")
            stop.leave(f"stopped after {asked_now}", "run the same command again to go on")
        talk.say(f"{asked_now} now, {known:,} before")
        facts = facts_of(engine.checkpoint, asked)
        run_all = run_programs if asked.run_code else None
        path = write_results(exams, keys, engine.weights, answers, folder, facts, run_all)
    talk.say(f"wrote {path}")
    return Result(path, read_json(path))


def answer_share(exams: Sequence[Exam], engine: Engine, folder: Path) -> None:
    """Ask what is this rank's share of the items; rank 0 grades them."""
    keys = keys_of(exams, engine)
    with open_answers(folder, rank()) as answers, stop_on_signals(None) as stop:
        for _ in ask_all(exams, keys, engine, answers, stop.requested, Share(rank(), world())):
            pass
        stop.leave(f"rank {rank()} stopped")


def facts_of(checkpoint: Checkpoint, asked: EvalOptions) -> dict[str, Any]:
    """Return what results say of the run as a whole."""
    folder = checkpoint.folder
    rounded = {"quantize": asked.quantize} if asked.quantize else {}
    return {
        "model_args": {"pretrained": str(asked.ckpt), "dtype": asked.dtype, **rounded},
        "model_name": str(asked.ckpt),
        "limit": asked.limit,
        "ours": {"checkpoint": folder.name, "seed": asked.seed, "preset": asked.preset},
    }


def check_rules(exams: Sequence[Exam], checkpoint: Checkpoint) -> None:
    """Raise UsageError where there are no two rules to compare."""
    if checkpoint.config.is_causal:
        raise UsageError(
            "--compare-rules is about models that fill masks: one that writes from left to right "
            "has its exact likelihoods alone"
        )
    if not all(exam.is_scored for exam in exams):
        name = next(exam.name for exam in exams if not exam.is_scored)
        raise UsageError(f"--compare-rules is about choices, and {name} has texts")


def compare_rules(exams: Sequence[Exam], engine: Engine, asked: EvalOptions, talk: Talk) -> None:
    """Score every choice by two rules, and test them item by item."""
    assert asked.compare_rules is not None
    assert asked.output is not None
    rules, results = rules_of(asked.compare_rules), []
    for rule in rules:
        folder = asked.output / rule
        make_folder(folder)
        if asked.fresh:
            remove_answers(folder)
        talk.say(f"by {rule}")
        results.append(evaluate(by_rule(exams, rule), engine, folder, asked, talk))
    rows = [
        (rule, row)
        for rule, result in zip(rules, results, strict=True)
        for row in rows_of([result])
    ]
    tests = compare(results[:1], results[1:])
    show(Shown([row for _, row in rows], tests, [rule for rule, _ in rows]), asked, talk)
