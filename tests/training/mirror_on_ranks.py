"""Scenarios of a run on several ranks whose checkpoints are copied to a URL, a folder here.

python -m tests.training.mirror_on_ranks FOLDER SCENARIO …
"""

import os
import shutil
import signal
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import torch.distributed as dist

from illada_core import remote
from illada_core.errors import DataError, IlladaError
from illada_core.model.finding import list_checkpoints
from illada_core.training import loop
from illada_core.training.events import Noticed, Saved
from illada_core.training.parallel import wait_for_all
from tests.training.on_ranks import CURVE, take_part
from tests.training.test_loop import run_training
from tests.training.tiny import tiny_recipe


def mirrored_recipe(folder, name, *changes):
    """Return the recipe of runs on ranks, without answers, with a mirror in a folder here."""
    mirror = f"checkpoint.mirror={(folder / name).as_uri()}"
    return tiny_recipe(folder / "chats", *CURVE, mirror, *changes)


@contextmanager
def uploads(first):
    """Do something first whenever this process puts a file at a URL."""
    upload = remote.upload

    def put(path, url):
        first(path, url)
        upload(path, url)

    remote.upload = put
    try:
        yield
    finally:
        remote.upload = upload


def break_down(path, url):
    raise DataError(f"cannot write {url}: no network")


def outcome(asked, run, ranks, **how):
    """Train; return the sentences said meanwhile, the steps saved, and how it failed, if it did."""
    events = []
    try:
        run_training(asked, run, ranks=ranks, told=events.append, **how)
        failure = None
    except IlladaError as error:
        failure = (error.code, error.sentence)
    said = [event.sentence for event in events if isinstance(event, Noticed)]
    return said, [event.step for event in events if isinstance(event, Saved)], failure


def bare_machine(folder, ranks):
    """Stop after a step, lose the folder of the run, and go on; say from where."""
    asked, run = mirrored_recipe(folder, "bucket"), folder / "bare"
    run_training(asked, run, stop_after=4, ranks=ranks)
    if ranks.is_main:
        shutil.copytree(folder / "bucket", folder / "bucket-at-4")
        shutil.rmtree(run)
    wait_for_all(ranks)
    return run_training(asked, run, ranks=ranks)[0].step


def from_one(folder, ranks):
    """Go on, on a machine that has nothing, from the mirror of one process; say from where."""
    asked = mirrored_recipe(folder, "bucket-of-one")
    return run_training(asked, folder / "from-one", ranks=ranks)[0].step


def broken(folder, ranks):
    """Go on, or end, where a copy cannot be written, by the recipe's choice."""
    told = {}
    for choice in ("stop", "continue"):
        asked = mirrored_recipe(folder, f"no-{choice}", f"checkpoint.on_error={choice}")
        with uploads(break_down):
            told[choice] = outcome(asked, folder / f"broken-{choice}", ranks)
    return told


def foreign(folder, ranks):
    """Begin where the URL holds something else, which only rank 0 sees."""
    if ranks.is_main:
        (folder / "foreign").mkdir()
        (folder / "foreign" / "notes.txt").write_text("of somebody")
    return outcome(mirrored_recipe(folder, "foreign"), folder / "refused", ranks)[2]


def slow_store(folder, ranks):
    """Begin and end at a store that is slower than ranks else wait for each other; say if it fails.

    They wait a second, as if they had just met, and after the last step.
    """
    short, run = timedelta(seconds=1), folder / "slow"
    upload, list_files = remote.upload, remote.list_files

    def slow_upload(path, url):
        time.sleep(2.0 if url.endswith("step-000000008/state.json") else 0.0)
        upload(path, url)

    def slow_list(url):
        time.sleep(0.0 if list_checkpoints(run) else 2.0)
        return list_files(url)

    dist.distributed_c10d._set_pg_timeout(short, dist.group.WORLD)
    with (
        patch.object(loop, "LONG_WAIT", short),
        patch.object(remote, "upload", slow_upload),
        patch.object(remote, "list_files", slow_list),
    ):
        return outcome(mirrored_recipe(folder, "bucket-of-slow"), run, ranks)[2]


def killed(folder, ranks):
    """Lose rank 0 when half of state.json is copied of the checkpoint after step 4."""
    copy = shutil.copyfile

    def copy_half(source, target, **how):
        if "step-000000004" in str(target) and "state.json" in str(target):
            Path(target).write_bytes(Path(source).read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(source, target, **how)

    shutil.copyfile = copy_half  # fsspec copies files by it
    run_training(mirrored_recipe(folder, "bucket-of-killed"), folder / "killed", ranks=ranks)


if __name__ == "__main__":
    take_part(globals())
