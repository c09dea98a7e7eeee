"""Tasks of lm-evaluation-harness among those of `illada eval`; needs the extra `eval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illada_cli.eval.exams import SCORING, changed_settings, first_given
from illada_cli.eval.options import EvalOptions
from illada_core.benchmark.answering import Engine
from illada_core.benchmark.definition import load_benchmark, packaged_benchmarks
from illada_core.benchmark.harness import IlladaLM, how_of
from illada_core.benchmark.harness_tasks import HarnessExam, examine
from illada_core.benchmark.results import Result
from illada_core.benchmark.suites import Entry, load_suite
from illada_core.errors import UsageError
from illada_core.inference.presets import load_preset


def evaluate_harness(
    names: Sequence[str], engine: Engine, folder: Path, asked: EvalOptions, facts: dict[str, Any]
) -> list[Result]:
    """Ask tasks of the harness, one after the other, and write their results."""
    suite = load_suite(asked.preset) if asked.preset else None
    results = []
    for name in names:
        entry = suite.entry(name) if suite else None
        arguments = arguments_of(entry, asked)
        how = how_of(arguments)
        exam = HarnessExam(
            name=name,
            shots=first_given(asked.shots, entry and entry.shots),
            limit=asked.limit,
            seed=asked.seed,
            chat=asked.chat or is_chat(entry),
            run_code=asked.run_code,
            how=arguments,
            ours=said_of(entry),
        )
        model = IlladaLM.around(engine, how, folder)
        results.append(examine(exam, model, folder, facts))
    return results


def arguments_of(entry: Entry | None, asked: EvalOptions) -> dict[str, Any]:
    """Return the settings of a task by name: options, else the preset's."""
    generate = (entry.generate if entry else None) or {}
    preset = load_preset(generate) if isinstance(generate, str) else generate
    scoring = entry.score if entry else {}
    changes = changed_settings(asked.changes)
    unknown = [name for name in scoring if name not in SCORING]
    if unknown:
        raise UsageError(f"there is no setting {unknown[0]} of scoring")
    named = {**preset, **scoring, **changes}
    bos = first_given(asked.bos, entry and entry.bos)
    return {**named, "bos": bos, "truncate": asked.truncate}


def is_chat(entry: Entry | None) -> bool:
    """Tell whether a preset asks a task in a chat: as it does ours in its place."""
    known = entry is not None and entry.task in packaged_benchmarks()
    return known and load_benchmark(entry.task).chat if entry else False


def said_of(entry: Entry | None) -> dict[str, Any]:
    """Return what results say of a task beside its figures."""
    if entry is None:
        return {}
    remarks = [entry.remark] if entry.remark else []
    return {"published": entry.published, "remarks": remarks, "metric": entry.metric}
