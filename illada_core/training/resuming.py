"""A run gone on with by its folder alone: its recipe, and the places that it names. No torch.

A relative path in the recipe is that of the folder where the run was last started, wherever the
command is given now; where nothing lies there any more, that of the folder at hand.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from illada_core.decoding import Count, shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding
from illada_core.model.finding import RECIPE
from illada_core.places import is_url
from illada_core.training.recipe.files import load_recipe
from illada_core.training.recipe.keys import Recipe
from illada_core.training.run_folder import DAMAGED_HINT, ENVIRONMENT, is_run, read_starts


@dataclass(frozen=True)
class Launch:
    """How the ranks of a run are started.

    `nproc` on each machine; `nodes` is the number of machines, or auto: as Slurm says; at most
    `restarts` times an hour they are started again where one was lost.
    """

    nproc: int = 1
    nodes: str = "1"
    restarts: int = 0


def recipe_to_resume(run: Path, changes: list[str] | None = None) -> Recipe:
    """Return the recipe of a run with `table.key=VALUE` changes, its places as they are found here.

    Raises UsageError for a folder that is no run's.
    """
    if not is_run(run):
        raise UsageError(f"{run} is not the folder of a run", "illada runs lists those in runs/")
    before = load_recipe(run / RECIPE)
    return found_again(load_recipe(run / RECIPE, changes), before, run)


def found_again(recipe: Recipe, before: Recipe, run: Path) -> Recipe:
    """Return a recipe with the places that it has from before as they are found from here."""
    directory, _ = last_start(run)
    if directory == Path.cwd():
        return recipe
    found, data, was = partial(find_place, directory), recipe.data, before.data
    if recipe.model.ckpt == before.model.ckpt:
        recipe = replace(recipe, model=replace(recipe.model, ckpt=found(recipe.model.ckpt)))
    if data.path == was.path:
        data = replace(data, path=found(data.path))
    if data.holdout == was.holdout:
        data = replace(data, holdout=found(data.holdout))
    if data.mixture == was.mixture:
        parts = [text.rpartition("=") for text in data.mixture]
        data = replace(data, mixture=tuple(f"{found(path)}={amount}" for path, _, amount in parts))
    return replace(recipe, data=data)


def find_place(directory: Path, path: str) -> str:
    """Return a path as it leads from here to what lies at it in a directory, if anything does.

    URLs and ids of the hub stay what they are.
    """
    there = directory / path
    return str(there) if path and not is_url(path) and there.exists() else path


def check_data_are_there(run: Path, recipe: Recipe) -> None:
    """Raise UsageError where a run has lost the data that it is trained on."""
    mixed = [text.rpartition("=")[0] for text in recipe.data.mixture]
    for places, option in (
        ([recipe.data.path], "--data DIR"),
        (mixed, "--mixture DIR=WEIGHT for each of its datasets"),
        ([recipe.data.holdout], "--set data.holdout=DIR"),
    ):
        for place in places:
            if place and not is_url(place) and not Path(place).exists():
                raise UsageError(
                    f"the data of {run} are no longer at {place}", f"say where they are: {option}"
                )


def last_start(run: Path) -> tuple[Path, Launch]:
    """Return where a run was last started, and how its ranks were.

    Of one that does not say: here, and one. Raises CheckpointError if what it says is damaged.
    """
    starts = read_starts(run)
    with decoding(run / ENVIRONMENT, CheckpointError, DAMAGED_HINT):
        start = starts[-1] if starts else {}
        directory = shaped(start.get("directory"), str | None, "directory")
        nproc = shaped(start.get("local_world"), Count | None, "local_world") or 1
        world = shaped(start.get("world"), Count | None, "world") or nproc
        # Of ranks that others have started, as torchrun, only their number is known.
        nodes = shaped(start.get("nodes"), str | None, "nodes") or str(max(1, world // nproc))
        restarts = shaped(start.get("restarts"), Count | None, "restarts") or 0
        return Path(directory or "").resolve(), Launch(nproc, nodes, restarts)
