"""What tasks and presets there are. No torch: a list appears at once."""

from __future__ import annotations

import json

from illada_cli.eval.options import EvalOptions
from illada_cli.ui import table
from illada_core.benchmark.definition import load_benchmark, packaged_benchmarks
from illada_core.benchmark.suites import load_suite, packaged_suites


def list_tasks(asked: EvalOptions) -> None:
    """List tasks, then presets with their tasks; --tasks chooses by a part of the name."""
    part = asked.tasks or ""
    rows = [("task", "kind", "shots", "metric", "prompts of", "title")]
    for name in packaged_benchmarks():
        if part in name:
            task = load_benchmark(name)
            shots, of = str(task.shots), task.harness and "the harness"
            rows.append((name, task.kind, shots, task.main_metric, of or "ours", task.title))
    suites = [load_suite(name) for name in packaged_suites()]
    if asked.as_json:
        for row in rows[1:]:
            print(json.dumps(dict(zip(rows[0], row, strict=True))))
        return
    if len(rows) > 1:
        print(table(rows, right_align_from=len(rows[0])))
    for suite in suites:
        names = [each.task for each in suite.tasks if part in each.task]
        if names:
            print(f"\n--preset {suite.name}: {suite.title} ({suite.source})\n  {', '.join(names)}")
