"""What the verbs that train have in common: their options, the printed plan, and the run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illada_cli.options import OUTPUT
from illada_core.errors import SIGNAL_EXIT_BASE, StoppedBySignal

if TYPE_CHECKING:
    from illada_core.training.recipe.keys import Recipe

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


def read_recipe(
    file: Path, changes: list[str] | None, data: Path | None, ckpt: Path | None
) -> Recipe:
    """Read a recipe, changed by --set, --data and --ckpt."""
    from illada_core.training.recipe.files import load_recipe

    recipe = load_recipe(file, changes)
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, path=str(data)))
    if ckpt is not None:
        recipe = replace(recipe, model=replace(recipe.model, ckpt=str(ckpt)))
    return recipe


def print_plan(recipe: Recipe) -> None:
    """Print the recipe as its data complete it, and under it what it will cost."""
    from illada_cli.train.plan import plan_lines
    from illada_core.training.recipe.files import to_toml
    from illada_core.training.recipe.plan import plan_run
    from illada_core.training.task import outlined, prepare

    if recipe.data.path:
        task = prepare(recipe)
        recipe, config, total = task.recipe, task.config, task.schedule.total_tokens
        row_tokens, assumed = task.train.tokens / task.train.rows, ""
    else:
        config, total, assumed = outlined(recipe)
        row_tokens = float(config.max_length)
    plan = plan_lines(plan_run(recipe, config, total, row_tokens), recipe, assumed)
    print(to_toml(recipe), *(f"# {line}".rstrip() for line in plan), sep="\n")


def run(
    verb: str,
    recipe: Recipe,
    folder: Path,
    nproc: int | None,
    fresh: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train in a run folder and show what happens; the model's folder goes to stdout."""
    from illada_cli.train import launch as launching

    if nproc is not None and nproc > 1 and not launching.is_rank():
        launching.launch(nproc)
        return
    launching.check_world(nproc)
    launching.end_with_launcher()
    train_here(verb, recipe, folder, fresh, quiet, verbose)


def train_here(
    verb: str, recipe: Recipe, folder: Path, fresh: bool, quiet: bool, verbose: bool
) -> None:
    """Train in this process, which may be one rank of several."""
    from illada_cli.signals import stop_on_signals
    from illada_cli.ui import Talk
    from illada_core.training.task import prepare

    is_main = os.environ.get("RANK", "0") == "0"
    talk = Talk(quiet=quiet or not is_main, verbose=verbose)
    task = prepare(recipe)
    promise = "stopping after this step and saving" if is_main else None
    with stop_on_signals(promise) as stop:
        from illada_cli.train.view import show
        from illada_core.training.loop import train
        from illada_core.training.parallel import joined
        from illada_core.training.session import opened

        with (
            joined(task.recipe.run.device) as ranks,
            opened(task, folder, ranks, fresh) as session,
        ):
            model = show(train(session, stop.number), verb, talk)
    if model is None:
        leave(session.stopped_by, session.progress.step, is_main)
    if is_main:
        print(model)


def leave(signal_number: int, step: int, is_main: bool) -> None:
    """Exit as the signal asks that stopped any of the ranks; one of them says so."""
    if not is_main:
        raise typer.Exit(SIGNAL_EXIT_BASE + signal_number)
    raise StoppedBySignal(
        f"stopped after step {step}", signal_number, "run the same command again to go on"
    )
