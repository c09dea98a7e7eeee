"""`--baseline`: the same items asked of another model, through lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from illada_cli.eval.options import EvalOptions
from illada_cli.ui import Talk
from illada_core.benchmark.answering import Engine
from illada_core.benchmark.answers import open_answers
from illada_core.benchmark.baseline import ask_baseline, open_baseline
from illada_core.benchmark.child import run_programs
from illada_core.benchmark.exam import Exam
from illada_core.benchmark.examination import write_results
from illada_core.benchmark.results import Result
from illada_core.files import make_folder


def evaluate_baseline(
    exams: Sequence[Exam], engine: Engine, asked: EvalOptions, facts: dict[str, Any], talk: Talk
) -> Result:
    """Ask a baseline what our exams ask, and write its results in a folder below ours."""
    assert asked.baseline is not None
    assert asked.output is not None
    folder = asked.output / "baseline"
    make_folder(folder)
    talk.say(f"asking {asked.baseline}")
    model = open_baseline(asked.baseline, engine.device)
    plain = [replace(exam, published={}) for exam in exams]
    named = {**facts, "model_args": {"pretrained": asked.baseline}, "model_name": asked.baseline}
    with open_answers(folder) as answers:
        keys = ask_baseline(plain, asked.baseline, model, answers)
        run_all = run_programs if asked.run_code else None
        path = write_results(plain, keys, asked.baseline, answers, folder, named, run_all)
    return Result.read(path)
