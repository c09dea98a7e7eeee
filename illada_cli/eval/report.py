"""Results that are there: shown, tested against others, or graded again."""

from __future__ import annotations

from illada_cli.eval.options import EvalOptions
from illada_cli.eval.view import Shown, show
from illada_cli.ui import Talk
from illada_core.benchmark.report import compare, rows_of
from illada_core.benchmark.results import read_results


def report(asked: EvalOptions, talk: Talk) -> None:
    """Show the results of a folder; with --rescore grade their answers again first."""
    if asked.rescore:
        from illada_core.benchmark.child import run_programs
        from illada_core.benchmark.rescoring import rescore

        run_all = run_programs if asked.run_code else None
        results = [rescore(each, run_all) for each in read_results(asked.rescore)]
        show(Shown(rows_of(results)), asked, talk)
        return
    assert asked.report
    results = read_results(asked.report)
    tests = compare(results, read_results(asked.against)) if asked.against else []
    show(Shown(rows_of(results), tests), asked, talk)
