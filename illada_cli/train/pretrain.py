"""`illada pretrain`: packed rows and a recipe in, a trained model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from illada_cli.options import DryRun, Fresh, Quiet, Set, Verbose
from illada_cli.train.options import Data, Nproc, Output, RecipeName, RunRequest

Ckpt = Annotated[
    Path | None,
    typer.Option("--ckpt", help="Model, checkpoint or run to start from, not fresh weights."),
]


def pretrain(
    recipe: RecipeName,
    data: Data = None,
    ckpt: Ckpt = None,
    set_: Set = None,
    output: Output = None,
    nproc: Nproc = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a masked-diffusion language model by a recipe.

    Packaged recipes are 8b (the paper's), 1b, 100m and demo. The same command again goes on where
    an earlier one stopped, bit for bit. SIGINT and SIGTERM finish the step and save; a file named
    `decay` put into the run folder starts the decay of the learning rate.

    \b
    Examples:
      illada pretrain demo --data corpus-packed
      illada pretrain 8b --dry-run > my.toml
      illada pretrain my.toml --data corpus-packed -o runs/mine --set optimizer.peak_lr=3e-4
      illada pretrain my.toml --data corpus-packed -o runs/mine --nproc 8
      touch runs/mine/decay
    """
    from illada_cli.train.run import run

    request = RunRequest(
        verb="pretrain",
        recipe=recipe,
        changes=set_,
        data=data,
        ckpt=ckpt,
        output=output,
        nproc=nproc,
        fresh=fresh,
        dry_run=dry_run,
        quiet=quiet,
        verbose=verbose,
    )
    run(request)
