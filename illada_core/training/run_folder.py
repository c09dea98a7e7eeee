"""The folder of a run: what is ours in it, and checkpoints that are complete or absent. No torch.

    recipe.toml  environment.json  metrics.jsonl  samples.jsonl  curves.png
    checkpoints/step-…/  model/  adapter/

The newest checkpoint is found by listing, never by a pointer that could lie. It holds the hashes
of its files: files.py makes it complete or absent, and what was changed since is found here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from illada_core.decoding import Count, shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import (
    LOCK,
    PARTIAL_FOLDER,
    decoding,
    new_folder,
    partial_path,
    read_json,
    remove_folder,
    remove_unfinished,
    sha256_of,
)
from illada_core.model.finding import CHECKPOINTS, MODEL, RECIPE, STEP_NAME, list_checkpoints
from illada_core.training.recipe.keys import CheckpointKeys

Files: TypeAlias = dict[str, dict[str, Any]]

CHECKPOINT_FORMAT = 2
READABLE_FORMATS = (1, 2)  # in the first, weights and moments are never in parts
ENVIRONMENT, METRICS, SAMPLES = "environment.json", "metrics.jsonl", "samples.jsonl"
CURVES, TENSORBOARD, DECAY = "curves.png", "tensorboard", "decay"
ADAPTER = "adapter"  # in peft's layout
FOLDERS = (CHECKPOINTS, MODEL, ADAPTER, TENSORBOARD)
# The last one makes a folder that of a run, and so goes last.
FILES = (METRICS, SAMPLES, CURVES, DECAY, RECIPE, ENVIRONMENT)
STATE = "state.json"
DAMAGED_HINT = "restore it, or start over with --fresh"


@dataclass(frozen=True)
class SavedFile:
    """What state.json says of a file beside it."""

    bytes: Count
    sha256: str


@dataclass(frozen=True)
class SignedState:
    """What state.json holds, its own hash left out; `files` go by their paths."""

    format: int
    state: dict[str, Any]
    files: dict[str, SavedFile]


def refuse_foreign(run: Path) -> None:
    """Raise UsageError for a folder that holds something and that no run has made.

    A run's folder is known by its environment.json: CheckpointError where that is damaged.
    """
    path = run / ENVIRONMENT
    if not run.exists():
        return
    if isinstance(read_json(path, CheckpointError, DAMAGED_HINT).get("starts"), list):
        return
    # A run that was killed before it had told of its start leaves no more than this.
    begun = {LOCK, partial_path(path).name}
    if found := sorted(entry.name for entry in run.iterdir() if entry.name not in begun):
        raise UsageError(
            f"{run} is not the folder of a run, but holds {found[0]}",
            "choose another folder with -o",
        )


def is_run(folder: Path) -> bool:
    """Tell whether a folder is that of a run."""
    return (folder / ENVIRONMENT).is_file() and (folder / RECIPE).is_file()


def read_starts(run: Path) -> list[dict[str, Any]]:
    """Return what a run has told of each of its starts. Raises CheckpointError if it is damaged."""
    path = run / ENVIRONMENT
    content = read_json(path, CheckpointError, DAMAGED_HINT)
    with decoding(path, CheckpointError, DAMAGED_HINT):
        return shaped(content.get("starts", []), list[dict[str, Any]], "starts")


def start_over(run: Path) -> None:
    """Delete what an earlier run left in its folder, and nothing else."""
    for name in FOLDERS:
        remove_folder(run / name)
    for name in FILES:
        (run / name).unlink(missing_ok=True)


def remove_leftovers(run: Path) -> None:
    """Delete what a killed process left half-written or half-deleted, by the names it gives."""
    for name in FOLDERS:
        remove_unfinished(run / name)
    for path in (run / CHECKPOINTS).glob(f"{PARTIAL_FOLDER}*step-*"):
        if match := STEP_NAME.search(path.name):
            remove_unfinished(path.with_name(match[0]))
    for name in FILES:
        partial_path(run / name).unlink(missing_ok=True)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def checkpoint_path(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"step-{step:09d}"


def write_checkpoint(
    run: Path, step: int, fill: Callable[[Path], None], state: dict[str, Any]
) -> Path:
    """Write a checkpoint: `fill` puts files into a folder, `state` goes beside them with hashes."""
    path = checkpoint_path(run, step)
    with new_folder(path) as temporary:
        fill(temporary)
        sign_checkpoint(temporary, state, describe_files(temporary, files_below(temporary)))
    return path


def describe_files(folder: Path, files: Iterable[Path]) -> Files:
    """Return size and hash of files in a checkpoint's folder, by their names in it."""
    return {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in files
    }


def sign_checkpoint(folder: Path, state: dict[str, Any], files: Files) -> None:
    """Put the state beside a checkpoint's files, and the hashes of all."""
    content = {"format": CHECKPOINT_FORMAT, "state": state, "files": files}
    signed = {**content, "sha256": content_sha256(content)}
    (folder / STATE).write_text(json.dumps(signed, indent=1) + "\n")


def read_checkpoint(path: Path, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Return a checkpoint's state after checking every byte, or this rank's share of them.

    Raises CheckpointError.
    """
    hint = f"delete {path} to go on from the checkpoint before it"
    content = read_json(path / STATE, CheckpointError, hint)
    signature = content.pop("sha256", None)
    if signature is None:
        raise CheckpointError(f"{path / STATE} is missing or damaged", hint)
    if content.get("format") not in READABLE_FORMATS:
        raise CheckpointError(
            f"{path} has checkpoint format {content.get('format')}, this illada reads "
            f"{', '.join(map(str, READABLE_FORMATS))}"
        )
    if signature != content_sha256(content):
        raise CheckpointError(f"{path / STATE} was changed after it was written", hint)
    with decoding(path / STATE, CheckpointError, hint):
        signed = shaped(content, SignedState, "it")
    for name, expected in sorted(signed.files.items())[rank::world]:
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing", hint)
        if file.stat().st_size != expected.bytes:
            raise CheckpointError(
                f"{file} has {file.stat().st_size} bytes instead of {expected.bytes}", hint
            )
        if sha256_of(file) != expected.sha256:
            raise CheckpointError(f"{file} was changed after it was written", hint)
    return signed.state


def content_sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prune_checkpoints(run: Path, keys: CheckpointKeys) -> None:
    """Delete the checkpoints of a run that need not be kept."""
    complete = dict(list_checkpoints(run))
    for step in doomed_steps(list(complete), keys):
        remove_folder(complete[step])


def doomed_steps(steps: list[int], keys: CheckpointKeys) -> list[int]:
    """Return which checkpoints go: all but the newest, and the multiples of `keep_every_steps`.

    One that only guards against a sudden end is kept until there is another. `steps` rise.
    """
    lasting = [step for step in steps if not is_ephemeral(step, keys)]
    every = keys.keep_every_steps
    old = [step for step in lasting[: -keys.keep_last] if not every or step % every]
    return [*old, *(step for step in steps[:-1] if is_ephemeral(step, keys))]


def is_ephemeral(step: int, keys: CheckpointKeys) -> bool:
    """Tell whether the checkpoint of a step only guards against a sudden end of the run."""
    lasts = keys.every_steps > 0 and step % keys.every_steps == 0
    return keys.ephemeral_every_steps > 0 and step % keys.ephemeral_every_steps == 0 and not lasts
