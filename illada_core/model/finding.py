"""What `--ckpt` means: a model folder, a checkpoint, a run, or a model on the hub. No torch."""

import re
from pathlib import Path

from illada_core.errors import CheckpointError

CONFIG = "config.json"  # makes a folder that of a model
GENERATION_FILE = "generation_config.json"
RECIPE = "recipe.toml"  # makes a folder that of a run
CHECKPOINTS, MODEL, ADAPTERS = "checkpoints", "model", "adapters.safetensors"
STEP_NAME = re.compile(r"step-(\d+)")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


def find_model(ckpt: str | Path) -> Path:
    """Return the folder of config.json and weights that `ckpt` means.

    A model folder is itself; a checkpoint means its model; a run means that of its newest complete
    checkpoint, else the exported one; what is no folder may be a hub id (`owner/name@revision`).
    Raises CheckpointError.
    """
    path = Path(ckpt)
    if not path.exists():
        if HUB_ID.fullmatch(str(ckpt)):
            return download(str(ckpt))
        raise CheckpointError(f"no such model, checkpoint or run: {ckpt}")
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file", f"name the folder that holds {CONFIG}")
    for folder in (path, newest_model(path) or path / MODEL):
        if (folder / CONFIG).is_file():
            return folder
    if (path / RECIPE).is_file():
        raise CheckpointError(f"the run {path} has no complete checkpoint yet")
    raise CheckpointError(f"{path} is neither a model (no {CONFIG}) nor a run (no {RECIPE})")


def list_checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Return the complete checkpoints of a run as (step, folder), oldest first."""
    found = [
        (int(match[1]), path)
        for path in (run / CHECKPOINTS).glob("step-*")
        if (match := STEP_NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found)


def newest_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None."""
    checkpoints = list_checkpoints(run)
    return checkpoints[-1][1] if checkpoints else None


def newest_model(run: Path) -> Path | None:
    """Return the model of a run's newest checkpoint, or None if there is no checkpoint.

    Where checkpoints hold adapters it is the exported one, or a CheckpointError as long as there is
    none.
    """
    newest = newest_checkpoint(run)
    if newest is None or not (newest / ADAPTERS).is_file():
        return newest and newest / MODEL
    if (run / MODEL).is_dir():
        return run / MODEL
    raise CheckpointError(
        f"the run {run} has only adapters so far", "they are merged into a model when it ends"
    )


def download(hub_id: str) -> Path:
    """Fetch a released model from the hub, or find it in the hub's cache."""
    # Only a hub id needs it, and it takes its time to load.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = hub_id.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=HUB_FILES))
    except (LocalEntryNotFoundError, OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"there is no folder {hub_id}, and no such model could be fetched from the hub",
            f"the hub said: {reason}",
        ) from None
