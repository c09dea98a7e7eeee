"""Copies of a run's checkpoints at a URL (checkpoint.mirror), made while training goes on.

    URL/environment.json  recipe.toml  metrics.jsonl  samples.jsonl  checkpoints/step-…/

A store has no renaming, so state.json is put last: a checkpoint without one is none. A run whose
folder lacks the newest of them brings it back, also on a machine that has nothing. No torch.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from illada_core import remote
from illada_core.errors import IlladaError, UsageError
from illada_core.files import make_folder, new_folder, parse_json, write_file
from illada_core.model.finding import CHECKPOINTS, RECIPE, STEP_NAME, list_checkpoints
from illada_core.places import is_url
from illada_core.training.recipe.keys import CheckpointKeys
from illada_core.training.run_folder import (
    ENVIRONMENT,
    METRICS,
    SAMPLES,
    STATE,
    checkpoint_path,
    doomed_steps,
    files_below,
    read_starts,
)

TOLD = (ENVIRONMENT, RECIPE, METRICS, SAMPLES)
OTHER_HINT = "name another URL with checkpoint.mirror, or use --fresh to replace what is there"

Steps = dict[int, list[str]]  # of each checkpoint its files, by their paths below the URL


class Mirror:
    """Copies checkpoints in a thread, one after the other; one with a successor may be left out.

    What goes wrong is raised by the next call.
    """

    def __init__(self, run: Path, keys: CheckpointKeys) -> None:
        self.run, self.keys, self.url = run, keys, keys.mirror.rstrip("/")
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mirror")
        self.newest = 0
        self.copies: list[Future[None]] = []

    def begin(self, step: int) -> None:
        """Copy a checkpoint that is complete. Raises what an earlier copy met with."""
        done = [copy for copy in self.copies if copy.done()]
        self.copies = [copy for copy in self.copies if copy not in done]
        self.newest = step
        self.copies.append(self.thread.submit(self.copy, step))
        for copy in done:
            copy.result()

    def finish(self) -> None:
        """Wait until all is there. Raises what a copy met with."""
        copies, self.copies = self.copies, []
        for copy in copies:
            copy.result()

    def close(self) -> None:
        """Wait for the copy at hand."""
        self.thread.shutdown(wait=True)

    def copy(self, step: int) -> None:
        """Put a checkpoint at the URL, unless a newer one is to come; delete old ones there."""
        path = checkpoint_path(self.run, step)
        if step != self.newest:
            return
        try:
            put_checkpoint(self.run, path, self.url)
        except (IlladaError, OSError):
            if path.is_dir():
                raise
            return  # it was deleted meanwhile: there is a newer one
        prune(self.url, self.keys)


def put_checkpoint(run: Path, path: Path, url: str) -> None:
    """Put what tells of a run, and a checkpoint of it, at a URL."""
    for name in TOLD:
        if (run / name).is_file():
            remote.write(f"{url}/{name}", (run / name).read_bytes())
    files = sorted(files_below(path), key=lambda file: file == path / STATE)
    for file in files:
        remote.upload(file, f"{url}/{file.relative_to(run)}")


def prune(url: str, keys: CheckpointKeys) -> None:
    """Delete old checkpoints at a mirror as in the run's folder, and what was never completed."""
    found = steps_among(remote.list_files(url))
    complete = complete_steps(found)
    broken = [step for step in found if step not in complete and step < max(complete, default=0)]
    for step in (*doomed_steps(complete, keys), *broken):
        remove(url, found[step])


def remove(url: str, names: Iterable[str]) -> None:
    """Delete files at a URL, first what makes a checkpoint of them."""
    for name in sorted(names, key=lambda name: not name.endswith(f"/{STATE}")):
        remote.remove(f"{url}/{name}")


def steps_among(names: Iterable[str]) -> Steps:
    """Return the files of each checkpoint, complete or not."""
    found: Steps = {}
    for name in names:
        folder, _, rest = name.partition("/")
        match = STEP_NAME.fullmatch(rest.partition("/")[0])
        if folder == CHECKPOINTS and match:
            found.setdefault(int(match[1]), []).append(name)
    return found


def complete_steps(found: Steps) -> list[int]:
    """Return the steps of complete checkpoints, rising."""
    return sorted(
        step for step, names in found.items() if any(name.endswith(f"/{STATE}") for name in names)
    )


def restore(run: Path, url: str, fresh: bool) -> None:
    """Bring the newest checkpoint at a mirror into a run's folder, if that has none as new.

    With `fresh` the mirror is emptied. UsageError if it is not that of this run.
    """
    if not is_url(url):
        raise UsageError(f"recipe: checkpoint.mirror is no URL: {url}", "such as s3://bucket/run")
    url = url.rstrip("/")
    there = remote.list_files(url)
    if all(name.endswith(remote.UNFINISHED) for name in there):
        return
    starts = starts_at(url, there)
    if fresh:
        told = [name for name in TOLD if name in there and name != ENVIRONMENT]
        steps = [name for names in steps_among(there).values() for name in names]
        remove(url, (*steps, *told))
        remote.remove(f"{url}/{ENVIRONMENT}")  # it makes the rest known as ours, and so goes last
        return
    here = read_starts(run)
    if here and here[:1] != starts[:1]:
        raise UsageError(f"{url} holds another run than {run}", OTHER_HINT)
    found = steps_among(there)
    newest = max(complete_steps(found), default=0)
    if here and newest <= max((step for step, _ in list_checkpoints(run)), default=0):
        return
    for name in TOLD:
        if name in there:
            write_file(run / name, remote.read(f"{url}/{name}"))
    if newest:
        fetch(url, found[newest], run, newest)


def starts_at(url: str, there: Iterable[str]) -> list[dict[str, Any]]:
    """Return the starts of the run whose mirror is at a URL; UsageError if it is none."""
    name = f"{url}/{ENVIRONMENT}"
    told = parse_json(remote.read(name), Path(name)) if ENVIRONMENT in there else {}
    starts = told.get("starts")
    if not isinstance(starts, list):
        first = min(name for name in there if not name.endswith(remote.UNFINISHED))
        raise UsageError(
            f"{url} is not the mirror of a run, but holds {first}",
            "name another URL with checkpoint.mirror",
        )
    return starts


def fetch(url: str, names: Iterable[str], run: Path, step: int) -> None:
    """Bring a checkpoint into the folder of a run, where it is complete or absent."""
    path = checkpoint_path(run, step)
    with new_folder(path) as aside:
        for name in names:
            file = aside / Path(name).relative_to(path.relative_to(run))
            make_folder(file.parent)
            with open(file, "wb") as stream:
                remote.download(f"{url}/{name}", stream)
