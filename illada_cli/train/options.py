"""What may be asked of the verbs that train; what is None is left to the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from illada_cli.options import OUTPUT, DryRun, Fresh, Quiet, Set, Verbose
from illada_cli.words import Words, recipes
from illada_core.places import path_of

MACHINES = "Machines"
PLAN = "Plan (with --dry-run)"

RecipeName = Annotated[
    str | None,
    typer.Argument(metavar="[RECIPE]", help="A recipe.toml, or the name of a packaged recipe."),
    Words(recipes),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Go on with a run: recipe, data and ranks as they were, but for what is given.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Packed dataset to train on, or its URL [default: data.path of the recipe].",
    ),
]
Mixture = Annotated[
    list[str] | None,
    typer.Option(
        "--mixture",
        metavar="DIR=WEIGHT",
        help="Packed datasets by their share of the rows, or by epochs: DIR=2x; repeat it.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Run folder [default: runs/NAME].",
        rich_help_panel=OUTPUT,
        parser=path_of,
    ),
]
Nproc = Annotated[
    int | None,
    typer.Option("--nproc", help="Processes on this machine, one a GPU [default: 1].", min=1),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus", help="Devices to plan for [default: plan.devices].", min=1, rich_help_panel=PLAN
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="KIND",
        help="Their kind, as h100 [default: plan.device].",
        rich_help_panel=PLAN,
    ),
]
Nodes = Annotated[
    str | None,
    typer.Option(
        "--nodes",
        metavar="N",
        help="Machines with --nproc processes each; auto: as Slurm says [default: 1].",
        rich_help_panel=MACHINES,
    ),
]
Node = Annotated[
    int | None,
    typer.Option("--node", help="Which of them this is, from 0.", min=0, rich_help_panel=MACHINES),
]
Meet = Annotated[
    str | None,
    typer.Option(
        "--meet",
        metavar="HOST:PORT",
        help="Where their ranks meet: machine 0, and a port there.",
        rich_help_panel=MACHINES,
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option(
        "--restarts",
        metavar="N",
        help="Start the ranks again when one was lost, at most N times an hour [default: 0].",
        min=0,
        rich_help_panel=MACHINES,
    ),
]


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """A run from fresh weights, or from those of --ckpt."""

    recipe: RecipeName = None
    resume: Resume = None
    data: Data = None
    mixture: Mixture = None
    ckpt: Annotated[
        Path | None,
        typer.Option(
            "--ckpt",
            metavar="DIR",
            help="Model, checkpoint or run to start from, not fresh weights.",
        ),
    ] = None
    set_: Set = None
    output: Output = None
    nproc: Nproc = None
    nodes: Nodes = None
    node: Node = None
    meet: Meet = None
    restarts: Restarts = None
    fresh: Fresh = False
    dry_run: DryRun = False
    gpus: Gpus = None
    gpu: Gpu = None
    quiet: Quiet = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class SftOptions:
    """A run that fine-tunes a base."""

    recipe: RecipeName = None
    resume: Resume = None
    ckpt: Annotated[
        Path | None,
        typer.Option(
            "--ckpt",
            metavar="DIR",
            help="Model, checkpoint or run to start from [default: model.ckpt of the recipe].",
        ),
    ] = None
    data: Data = None
    mixture: Mixture = None
    set_: Set = None
    output: Output = None
    nproc: Nproc = None
    nodes: Nodes = None
    node: Node = None
    meet: Meet = None
    restarts: Restarts = None
    fresh: Fresh = False
    dry_run: DryRun = False
    gpus: Gpus = None
    gpu: Gpu = None
    quiet: Quiet = False
    verbose: Verbose = False


TrainOptions = PretrainOptions | SftOptions
