"""`illada sft`: packed conversations, a base and a recipe in, a model that answers out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from illada_cli.options import DryRun, Fresh, Quiet, Set, Verbose
from illada_cli.train.options import Data, Nproc, Output, RecipeName, RunRequest

Ckpt = Annotated[
    Path | None,
    typer.Option(
        "--ckpt",
        help="Model, checkpoint or run to start from [default: model.ckpt of the recipe].",
    ),
]


def sft(
    recipe: RecipeName,
    ckpt: Ckpt = None,
    data: Data = None,
    set_: Set = None,
    output: Output = None,
    nproc: Nproc = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fine-tune a model on conversations by a recipe.

    Packaged recipes are 8b-sft (the paper's) and demo-sft; sizes come from the base. The same
    command again goes on where an earlier one stopped, bit for bit. SIGINT and SIGTERM finish the
    step and save. Answers to held-out prompts come as it goes, in samples.jsonl of the run folder.

    \b
    Examples:
      illada pack --chat pairs.jsonl --tokenizer runs/demo/model -o pairs-packed
      illada sft demo-sft --ckpt runs/demo --data pairs-packed -o runs/chat
      illada sft 8b-sft --ckpt iLLaDA-8B-Base --dry-run > my.toml
      illada sft my.toml --data pairs-packed --set objective.mask=response --set lora.rank=16
      illada chat --ckpt runs/chat
    """
    from illada_cli.train.run import run

    request = RunRequest(
        verb="sft",
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
        needs_base=True,
    )
    run(request)
