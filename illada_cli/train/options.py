"""The options that the verbs that train have in common, and what they ask for together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from illada_cli.options import OUTPUT

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe.toml, or the name of a packaged recipe.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Packed dataset to train on [default: data.path of the recipe]."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Run folder [default: runs/NAME].", rich_help_panel=OUTPUT),
]
Nproc = Annotated[
    int | None,
    typer.Option("--nproc", help="Processes on this machine, one a GPU [default: 1].", min=1),
]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run as the command line asks for it; what is None is left to the recipe."""

    verb: str
    recipe: str
    changes: list[str] | None
    data: Path | None
    ckpt: Path | None
    output: Path | None
    nproc: int | None
    fresh: bool
    dry_run: bool
    quiet: bool
    verbose: bool
    needs_base: bool = False
