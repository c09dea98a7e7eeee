"""What may be asked of `illada eval`, and which options go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options as shared
from illada_cli.options import INPUT, MODEL, OUTPUT
from illada_cli.words import Words, eval_tasks, suites
from illada_core.errors import UsageError

HOW = "How"
RESULTS = "Results that are there"
RULES = ("confidence", "likelihood", "one-shot")


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What is to be evaluated, on what, how, and where to; or what results are looked at."""

    ckpt: Annotated[
        str,
        typer.Option(
            "--ckpt",
            metavar="DIR",
            help="Run folder (its newest checkpoint), model folder, or hub id.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = ""
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            "-t",
            metavar="NAME,…",
            help="Tasks by name or TOML file [default: those of --preset].",
            rich_help_panel=INPUT,
        ),
        Words(eval_tasks),
    ] = None
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="[TASK=]PATH",
            help="The items: a file, or a folder that holds TASK.jsonl; repeatable.",
            rich_help_panel=INPUT,
        ),
    ] = field(default_factory=list)
    shots_from: Annotated[
        list[str],
        typer.Option(
            "--shots-from",
            metavar="[TASK=]PATH",
            help="What shots are drawn from [default: the items themselves, never the own].",
            rich_help_panel=INPUT,
        ),
    ] = field(default_factory=list)
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-L", help="The first N items of each task.", min=1, rich_help_panel=INPUT
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="A table with its settings and figures (paper-base), by name or TOML file.",
            rich_help_panel=HOW,
        ),
        Words(suites),
    ] = None
    shots: Annotated[
        int | None,
        typer.Option(
            "--shots",
            help="Items with answers before each item [default: the task's].",
            min=0,
            rich_help_panel=HOW,
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option("--samples", help="Texts for each item: pass@N.", min=1, rich_help_panel=HOW),
    ] = None
    changes: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of scoring or generation: rule=likelihood, threshold=0.9; repeatable.",
            rich_help_panel=HOW,
        ),
    ] = field(default_factory=list)
    compare_rules: Annotated[
        str | None,
        typer.Option(
            "--compare-rules",
            metavar="RULE,RULE",
            help="Score every choice by both rules, and test item by item (Table 4).",
            rich_help_panel=HOW,
        ),
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="hf:DIR",
            help="Ask another model the same items through lm-evaluation-harness, and test item by "
            "item.",
            rich_help_panel=HOW,
        ),
    ] = None
    run_code: Annotated[
        bool,
        typer.Option(
            "--run-code",
            help="Allow that programs which the model wrote are run, in limited children.",
            rich_help_panel=HOW,
        ),
    ] = False
    chat: shared.Chat = False
    bos: shared.Bos = None
    truncate: shared.Truncate = None
    seed: shared.Seed = 0
    nproc: Annotated[
        int | None,
        typer.Option(
            "--nproc",
            help="Processes that share the items, each on a GPU of its own if there are any.",
            min=1,
            rich_help_panel=MODEL,
        ),
    ] = None
    attention: shared.Attention = None
    shift: shared.Shift = None
    device: shared.Device = "auto"
    dtype: shared.Dtype = "auto"
    quantize: shared.Quantize = None
    graphs: shared.Graphs = False
    mask_id: shared.MaskId = None
    batch_tokens: shared.BatchTokens = None
    cache_tokens: shared.CacheTokens = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Answers, samples and results; run again to go on where it ended.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    fresh: shared.Fresh = False
    as_json: shared.Json = False
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="The table as Markdown.", rich_help_panel=OUTPUT),
    ] = False
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw the intervals (PNG).", rich_help_panel=OUTPUT
        ),
    ] = None
    dry_run: shared.DryRun = False
    probe: Annotated[
        int | None,
        typer.Option(
            "--probe",
            help="With --dry-run: measure N items of each task, and tell the time of all.",
            min=1,
        ),
    ] = None
    plan_device: Annotated[
        str | None,
        typer.Option(
            "--plan-device",
            metavar="NAME",
            help="With --dry-run: tell the time on this device (H100) at 30 % of its peak.",
        ),
    ] = None
    list_tasks: Annotated[
        bool,
        typer.Option("--list", help="List tasks and presets.", rich_help_panel=RESULTS),
    ] = False
    inspect: Annotated[
        str | None,
        typer.Option(
            "--inspect",
            metavar="TASK",
            help="Show an item as the model sees it.",
            rich_help_panel=RESULTS,
        ),
        Words(eval_tasks),
    ] = None
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Show the results of a folder.", rich_help_panel=RESULTS
        ),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="DIR",
            help="With --report: test against these results, item by item.",
            rich_help_panel=RESULTS,
        ),
    ] = None
    rescore: Annotated[
        Path | None,
        typer.Option(
            "--rescore",
            metavar="DIR",
            help="Grade the saved answers of a folder again.",
            rich_help_panel=RESULTS,
        ),
    ] = None
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @property
    def looks(self) -> list[str]:
        """The options by which nothing is asked of a model, as far as they are given."""
        given = {
            "--list": self.list_tasks or None,
            "--inspect": self.inspect,
            "--report": self.report,
            "--rescore": self.rescore,
        }
        return [name for name, value in given.items() if value is not None]


def check(asked: EvalOptions) -> None:
    """Raise UsageError for options that contradict each other, or would do nothing."""
    if len(asked.looks) > 1:
        raise UsageError(f"{' and '.join(asked.looks)} are two things to do", "give one of them")
    if asked.against and not asked.report:
        raise UsageError("--against is about --report")
    if asked.as_json and asked.markdown:
        raise UsageError("--json and --markdown are two forms of one table")
    for name, value in (("--probe", asked.probe), ("--plan-device", asked.plan_device)):
        if value is not None and not asked.dry_run:
            raise UsageError(f"{name} is about --dry-run")
    if asked.compare_rules:
        rules_of(asked.compare_rules)
        if "harness:" in (asked.tasks or ""):
            raise UsageError("--compare-rules is about our own tasks, and harness:NAME is none")
    if asked.baseline and (asked.compare_rules or asked.samples):
        raise UsageError("--baseline has one answer an item, and stands beside one way of asking")
    alone = asked.compare_rules or asked.baseline or "harness:" in (asked.tasks or "")
    if (asked.nproc or 1) > 1 and (alone or asked.dry_run):
        raise UsageError(
            "--nproc shares out our own tasks, asked one way",
            "run --compare-rules, --baseline, harness:NAME and --dry-run in one process",
        )
    if asked.looks:
        return
    if not asked.ckpt:
        raise UsageError("there is no --ckpt to evaluate", "see illada eval --help for examples")
    if asked.tasks is None and asked.preset is None:
        raise UsageError("there are no --tasks", "illada eval --list shows what there is")
    if asked.output is None and not asked.dry_run:
        raise UsageError("there is no -o folder for the results", "-o results/ makes one")
    if asked.output and asked.output.exists() and not asked.output.is_dir():
        raise UsageError(f"{asked.output} is no folder")


def rules_of(text: str) -> tuple[str, str]:
    """Return the two rules that are to be compared. Raises UsageError."""
    rules = text.split(",")
    if len(set(rules)) != 2 or not set(rules) <= set(RULES):
        raise UsageError(
            f"--compare-rules wants two rules, not {text}", f"known: {', '.join(RULES)}"
        )
    return rules[0], rules[1]
