"""What the verbs that train do: print the plan of a run, or make it in one process or several.

No torch: usage errors, `--dry-run` and the launcher of ranks do without.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer

from illada_cli.cores import share_cores
from illada_cli.launch import launch
from illada_cli.ranks import check_world, end_with_launcher, is_launched, is_rank, is_restarted
from illada_cli.signals import stop_on_signals
from illada_cli.train.machines import find_machines
from illada_cli.train.options import TrainOptions
from illada_cli.train.plan import plan_lines
from illada_cli.ui import Talk
from illada_core.errors import SIGNAL_EXIT_BASE, StoppedBySignal, UsageError
from illada_core.places import url_of
from illada_core.training.recipe.files import find_recipe, load_recipe, to_toml
from illada_core.training.recipe.keys import Recipe
from illada_core.training.recipe.plan import HERE, plan_run
from illada_core.training.resuming import (
    Launch,
    check_data_are_there,
    last_start,
    recipe_to_resume,
)
from illada_core.training.setup import outline, prepare

if TYPE_CHECKING:
    from illada_cli.train.rank import RunEnd


def run(verb: str, asked: TrainOptions) -> None:
    """Do what is asked; the plan, or the folder of the trained model, goes to stdout."""
    recipe, folder = what_to_train(verb, asked)
    if verb == "sft" and not recipe.model.ckpt:
        raise UsageError(
            "there is no model to fine-tune", "give a model folder or a run: --ckpt BASE"
        )
    if asked.dry_run:
        print_plan(recipe, Talk(quiet=asked.quiet))
        return
    start = how_to_start(asked)
    if launches(asked, start) and not is_rank():
        machines, talk = find_machines(asked, start.nodes), Talk(quiet=asked.quiet)
        if kept := [f"--{name} {value}" for name, value in kept_of_last(asked, start).items()]:
            talk.say(f"ranks as at its last start: {' '.join(kept)}")
        launch(start.nproc, machines, start.restarts, talk)
    else:
        check_world(asked.nproc)
        end_with_launcher()
        train_here(recipe, folder, verb, asked, start if is_launched() else None)


def what_to_train(verb: str, asked: TrainOptions) -> tuple[Recipe, Path]:
    """Return the recipe that is asked for and its run folder: those of --resume, or of a new run.

    Raises UsageError where both are asked for, or none.
    """
    if asked.resume is not None:
        refuse_beside_resume(asked)
        recipe = changed(recipe_to_resume(asked.resume, asked.set_), asked)
        check_data_are_there(asked.resume, recipe)
        return recipe, asked.resume
    if asked.recipe is None:
        raise UsageError(
            "there is nothing to train",
            f"give a recipe, illada {verb} RECIPE, or a run to go on with, --resume RUN",
        )
    if asked.output is not None and url_of(asked.output):
        raise UsageError(
            f"a run is written to a folder here, not to {asked.output}",
            "its checkpoints are copied to the URL that checkpoint.mirror names",
        )
    file = find_recipe(asked.recipe)
    recipe = changed(load_recipe(file, asked.set_), asked)
    return recipe, asked.output or Path("runs") / file.stem


def refuse_beside_resume(asked: TrainOptions) -> None:
    """Raise UsageError for what a run that is gone on with has already."""
    given = {
        "a recipe": asked.recipe is not None,
        "--output": asked.output is not None,
        "--ckpt": asked.ckpt is not None,
        "--fresh": asked.fresh,
    }
    for name, is_given in given.items():
        if is_given:
            raise UsageError(
                f"--resume goes on with a run as it is: {name} cannot be given",
                "keys that may change are changed by --set, or start another run without --resume",
            )


def how_to_start(asked: TrainOptions) -> Launch:
    """Return how ranks are started: as asked for, else as those of the run that is gone on with."""
    last = Launch() if asked.resume is None else last_start(asked.resume)[1]
    given = {name: vars(asked)[name] for name in vars(last) if vars(asked)[name] is not None}
    return replace(last, **given)


def kept_of_last(asked: TrainOptions, start: Launch) -> dict[str, object]:
    """Return what nobody has asked for now, and is unlike what all runs are started with."""
    usual = vars(Launch())
    return {
        name: value
        for name, value in vars(start).items()
        if vars(asked)[name] is None and value != usual[name]
    }


def launches(asked: TrainOptions, start: Launch) -> bool:
    """Tell whether the run is to have ranks, or to be watched by a launcher."""
    return start != Launch() or asked.node is not None or asked.meet is not None


def changed(recipe: Recipe, asked: TrainOptions) -> Recipe:
    """Return a recipe as --data, --mixture, --ckpt, --gpus and --gpu change it."""
    if asked.data is not None and asked.mixture:
        raise UsageError("give one of --data and --mixture")
    if asked.data is not None:
        recipe = replace(recipe, data=replace(recipe.data, path=asked.data, mixture=()))
    if asked.mixture:
        mixture = tuple(asked.mixture)
        recipe = replace(recipe, data=replace(recipe.data, path="", mixture=mixture))
    if asked.ckpt is not None:
        recipe = replace(recipe, model=replace(recipe.model, ckpt=str(asked.ckpt)))
    if asked.gpus is not None:
        recipe = replace(recipe, plan=replace(recipe.plan, devices=asked.gpus))
    if asked.gpu is not None:
        recipe = replace(recipe, plan=replace(recipe.plan, device=asked.gpu))
    return recipe


def print_plan(recipe: Recipe, talk: Talk) -> None:
    """Print the recipe as its data complete it, and under it what it will cost.

    What is to be known of the data is said as the run itself would say it.
    """
    if recipe.data.path or recipe.data.mixture:
        setup = prepare(recipe)
        recipe, config, total = setup.recipe, setup.config, setup.schedule.total_tokens
        row_tokens, assumed = setup.row_tokens, ""
        for remark in setup.remarks:
            talk.warn(remark)
    else:
        config, total, assumed = outline(recipe)
        row_tokens = float(config.max_length)
    here = None
    if recipe.plan.device == HERE:
        from illada_core.training.machine import this_machine  # torch, which nothing else needs

        here = this_machine(recipe.run)
    plan = plan_lines(plan_run(recipe, config, total, row_tokens, here), recipe, assumed)
    print(to_toml(recipe), *(f"# {line}".rstrip() for line in plan), sep="\n")


def train_here(
    recipe: Recipe, folder: Path, verb: str, asked: TrainOptions, start: Launch | None
) -> None:
    """Train in this process, which may be one rank of several, and show what happens.

    `start` says how the ranks were started, if by illada itself.
    """
    is_main = os.environ.get("RANK", "0") == "0"
    talk = Talk(quiet=asked.quiet or not is_main, verbose=asked.verbose)
    setup = prepare(recipe)
    promise = "stopping after this step and saving" if is_main else None
    with stop_on_signals(promise) as stop:
        share_cores()
        let_memory_grow()
        from illada_cli.train.rank import train_rank  # torch, now that nothing is left to refuse

        fresh = asked.fresh and not is_restarted()
        ended = train_rank(setup, folder, verb, fresh, start, talk, stop)
    if ended.model is None:
        hint = f"to go on: illada {verb} --resume {quote(str(folder))}, or the same command again"
        leave(ended, is_main, hint)
    if is_main:
        print(ended.model)


def let_memory_grow() -> None:
    """Let torch's blocks of a GPU's memory grow, unless its user has chosen otherwise.

    Steps hide different numbers of tokens, and blocks of fixed sizes leave holes between them.
    """
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


def leave(ended: RunEnd, is_main: bool, hint: str) -> None:
    """Exit as the signal asks that stopped any of the ranks; one of them says so."""
    if not is_main:
        raise typer.Exit(SIGNAL_EXIT_BASE + ended.stopped_by)
    raise StoppedBySignal(f"stopped after step {ended.step}", ended.stopped_by, hint)
