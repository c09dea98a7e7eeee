"""`illada pretrain`: packed rows and a recipe in, a trained model out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illada_cli.options import OUTPUT, DryRun, Fresh, Quiet, Set, Verbose

if TYPE_CHECKING:
    from illada_cli.ui import Talk
    from illada_core.training.recipe import Recipe

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe.toml, or the name of a packaged recipe.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Packed dataset to train on [default: data.path of the recipe]."),
]
Ckpt = Annotated[
    Path | None,
    typer.Option("--ckpt", help="Model, checkpoint or run to start from, not fresh weights."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Run folder [default: runs/NAME].", rich_help_panel=OUTPUT),
]


def pretrain(
    recipe: RecipeName,
    data: Data = None,
    ckpt: Ckpt = None,
    set_: Set = None,
    output: Output = None,
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
      touch runs/mine/decay
    """
    from illada_cli.ui import Talk
    from illada_core.training.recipe_files import find_recipe, load_recipe, to_toml

    file = find_recipe(recipe)
    wanted = load_recipe(file, set_)
    if data is not None:
        wanted = replace(wanted, data=replace(wanted.data, path=str(data)))
    if ckpt is not None:
        wanted = replace(wanted, model=replace(wanted.model, ckpt=str(ckpt)))
    if dry_run:
        wanted, plan = planned(wanted)
        print(to_toml(wanted), *(f"# {line}".rstrip() for line in plan), sep="\n")
        return
    is_main = os.environ.get("RANK", "0") == "0"
    talk = Talk(quiet=quiet or not is_main, verbose=verbose)
    run(wanted, output or Path("runs") / file.stem, fresh, talk, is_main)


def planned(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """Return the recipe as its data completes it, and the lines of the plan."""
    from illada_cli.plan_view import plan_lines
    from illada_core.training.plan import plan_run
    from illada_core.training.task import outlined, prepare

    if recipe.data.path:
        task = prepare(recipe)
        recipe, config, total = task.recipe, task.config, task.schedule.total_tokens
        row_tokens, assumed = task.train.tokens / task.train.rows, ""
    else:
        config, total, assumed = outlined(recipe)
        row_tokens = float(config.max_length)
    return recipe, plan_lines(plan_run(recipe, config, total, row_tokens), recipe, assumed)


def run(recipe: Recipe, folder: Path, fresh: bool, talk: Talk, is_main: bool) -> None:
    """Train in a run folder and show what happens; the model's folder goes to stdout."""
    from illada_cli.signals import stop_on_signals
    from illada_core.training.task import prepare

    task = prepare(recipe)
    promise = "stopping after this step and saving" if is_main else None
    with stop_on_signals(promise) as stop:
        from illada_cli.training_view import show
        from illada_core.training.loop import train
        from illada_core.training.parallel import joined
        from illada_core.training.session import opened

        with (
            joined(task.recipe.run.device) as ranks,
            opened(task, folder, ranks, fresh) as session,
        ):
            model = show(train(session, stop.requested), talk)
            step = session.progress.step
        if model is None:
            stop.leave(f"stopped after step {step}", "run the same command again to go on")
    if is_main:
        print(model)
