"""What may be asked of `illada runs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options as shared
from illada_cli.options import OUTPUT


@dataclass(frozen=True, kw_only=True)
class RunsOptions:
    """Which runs, and how they are shown."""

    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", help="Run folders, or folders of them [default: runs]."),
    ] = None
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            metavar="FILE",
            help="Draw their curves over each other to FILE.png, and write them to FILE.json.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    as_json: shared.Json = False
    quiet: shared.Quiet = False
