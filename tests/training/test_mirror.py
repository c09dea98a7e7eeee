"""A run whose checkpoints are copied to a URL goes on from there on a machine that has nothing."""

import shutil

import pytest

from illada_core import remote
from illada_core.errors import CheckpointError, DataError, UsageError
from illada_core.model.finding import list_checkpoints
from illada_core.training.events import Noticed
from illada_core.training.mirror import Mirror, complete_steps, steps_among
from illada_core.training.run_folder import doomed_steps
from tests.data.store_in_memory import bucket_in_memory, files_in, killed_at
from tests.training.test_loop import losses, run_training

URL = "memory://bucket/run"
MIRRORED = (f"checkpoint.mirror={URL}", "checkpoint.every_steps=2", "validation.every_steps=3")


@pytest.fixture
def memory(tmp_path, monkeypatch):
    with bucket_in_memory(monkeypatch, tmp_path / "cache") as files:
        yield files


def steps_at(memory):
    return complete_steps(steps_among(files_in(memory, "/bucket/run")))


def checkpoints_of(run):
    return [step for step, _ in list_checkpoints(run)]


def test_a_run_goes_on_from_its_mirror_on_a_bare_machine(recipe, tmp_path, memory):
    run_training(recipe(*MIRRORED[1:]), tmp_path / "whole")
    asked, run = recipe(*MIRRORED), tmp_path / "run"
    run_training(asked, run, stop_after=5)
    assert steps_at(memory) == checkpoints_of(run) == [4, 5]
    shutil.rmtree(run)
    run_training(asked, run)
    assert losses(run) == losses(tmp_path / "whole")
    assert steps_at(memory) == checkpoints_of(run)
    newest = f"checkpoints/step-{checkpoints_of(run)[-1]:09d}/optimizer.safetensors"
    assert (tmp_path / "whole" / newest).read_bytes() == memory.cat(f"/bucket/run/{newest}")
    # An older folder takes the newer checkpoint of its mirror.
    for _, path in list_checkpoints(run)[1:]:
        shutil.rmtree(path)
    run_training(asked, run)
    assert steps_at(memory) == checkpoints_of(run)


def test_a_checkpoint_is_complete_at_the_mirror_or_absent(recipe, tmp_path, memory, monkeypatch):
    """Ended at each change there, and begun again without the folder: the run is the same."""
    run_training(recipe(*MIRRORED[1:]), tmp_path / "whole")
    asked = recipe(*MIRRORED)
    run_training(asked, tmp_path / "run", stop_after=4)
    keys, number = asked.checkpoint, 1

    def copied_again():
        mirror = Mirror(tmp_path / "run", keys)
        mirror.newest = 4
        mirror.copy(4)

    memory.rm("/bucket", recursive=True)
    while killed_at(number, monkeypatch, copied_again):
        assert steps_at(memory) == []
        number += 1
        if memory.exists("/bucket"):
            memory.rm("/bucket", recursive=True)
    assert number > 6
    assert steps_at(memory) == [4]
    memory.pipe("/bucket/run/checkpoints/step-000000002/optimizer.safetensors", b"never completed")
    copied_again()
    assert not memory.exists("/bucket/run/checkpoints/step-000000002")
    shutil.rmtree(tmp_path / "run")
    run_training(asked, tmp_path / "run")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_damaged_copy_is_told_and_trained_on_by_nobody(recipe, tmp_path, memory):
    asked = recipe(*MIRRORED)
    run_training(asked, tmp_path / "run", stop_after=4)
    file = "/bucket/run/checkpoints/step-000000004/optimizer.safetensors"
    data = bytearray(memory.cat(file))
    data[-1] ^= 1
    memory.pipe(file, bytes(data))
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        run_training(asked, tmp_path / "bare")


def test_another_run_and_what_is_no_run_are_refused(recipe, tmp_path, memory):
    asked = recipe(*MIRRORED)
    with pytest.raises(UsageError, match=r"checkpoint.mirror is no URL: elsewhere"):
        run_training(recipe("checkpoint.mirror=elsewhere"), tmp_path / "wrong")
    memory.pipe("/bucket/run/notes.txt", b"of somebody")
    for fresh in (False, True):
        with pytest.raises(UsageError, match=r"is not the mirror of a run, but holds notes.txt"):
            run_training(asked, tmp_path / "run", fresh=fresh)
    memory.rm("/bucket/run/notes.txt")
    run_training(asked, tmp_path / "run", stop_after=2)
    run_training(recipe("checkpoint.every_steps=2"), tmp_path / "other", stop_after=2)
    with pytest.raises(UsageError, match="holds another run than"):
        run_training(asked, tmp_path / "other")
    memory.pipe("/bucket/run/notes.txt", b"of somebody")
    run_training(asked, tmp_path / "other", stop_after=3, fresh=True)
    assert steps_at(memory) == [2, 3]
    assert memory.cat("/bucket/run/notes.txt") == b"of somebody"


def test_a_store_that_fails_ends_the_run_or_not_as_the_recipe_says(
    recipe, tmp_path, memory, monkeypatch
):
    def broken(path, url):
        raise DataError(f"cannot write {url}: no network")

    monkeypatch.setattr(remote, "upload", broken)
    with pytest.raises(DataError, match="no network"):
        run_training(recipe(*MIRRORED), tmp_path / "run")
    asked = recipe(*MIRRORED, 'checkpoint.on_error="continue"')
    events = []
    with pytest.raises(DataError, match="no network"):  # at the end, that nobody may overlook it
        run_training(asked, tmp_path / "other", told=events.append)
    assert any("training goes on" in e.sentence for e in events if isinstance(e, Noticed))
    assert checkpoints_of(tmp_path / "other")[-1] == 12


def test_what_goes_at_the_mirror_is_what_goes_here(recipe):
    keys = recipe("checkpoint.keep_last=2", "checkpoint.keep_every_steps=4").checkpoint
    assert doomed_steps([2, 4, 6, 8, 10], keys) == [2, 6]
    keys = recipe("checkpoint.every_steps=4", "checkpoint.ephemeral_every_steps=1").checkpoint
    assert doomed_steps([4, 5, 6], keys) == [5]
