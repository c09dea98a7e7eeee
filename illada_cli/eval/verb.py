"""`illada eval`: tasks and their items in, a table with intervals out."""

from __future__ import annotations

from illada_cli.eval.options import EvalOptions, check
from illada_cli.options import takes_options
from illada_cli.ui import Talk


@takes_options
def evaluate(asked: EvalOptions) -> None:
    """Evaluate a checkpoint on tasks, and compare with what others measured.

    \b
    Examples:
      illada eval --ckpt DIR --tasks arc_challenge --data arc.jsonl -o results/
      illada eval --ckpt DIR --preset paper-base --data items/ -o results/ --run-code
      illada eval --ckpt DIR --tasks piqa --data piqa.jsonl -o t4/ \\
        --compare-rules confidence,likelihood
      illada eval --inspect gsm8k --data gsm8k.jsonl --ckpt DIR
      illada eval --report results/ --against other/

    Items come from files that you have: JSON Lines, Parquet, or a hub data set (hf:NAME). The same
    command goes on where it was stopped, and asks the model nothing twice. Programs that a model
    wrote are only run with --run-code.
    """
    talk = Talk(asked.quiet, asked.verbose)
    check(asked)
    if asked.list_tasks:
        from illada_cli.eval.listing import list_tasks

        list_tasks(asked)
    elif asked.report or asked.rescore:
        from illada_cli.eval.report import report

        report(asked, talk)
    elif asked.inspect:
        from illada_cli.eval.inspection import inspect

        inspect(asked)
    else:
        from illada_cli.eval.shares import start

        start(asked, talk)
