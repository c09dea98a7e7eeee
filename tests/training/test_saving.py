"""A checkpoint that cannot be written ends a run, or costs it that checkpoint and no more."""

import time

import pytest

from illada_core.model.finding import list_checkpoints
from illada_core.training import run_folder, saving_whole
from illada_core.training.events import Finished, Noticed
from tests.training.test_loop import losses, run_training

FULL = OSError(28, "No space left on device", "moments")


@pytest.fixture
def full_at(monkeypatch):
    """Return the function that makes the disk full for the checkpoint of a step."""
    write = run_folder.write_checkpoint

    def fill_up(full_step):
        def write_or_fail(run, step, *contents):
            if step == full_step:
                raise FULL
            return write(run, step, *contents)

        monkeypatch.setattr(run_folder, "write_checkpoint", write_or_fail)

    return fill_up


def test_a_run_goes_on_without_a_checkpoint_if_its_recipe_says_so(recipe, tmp_path, full_at):
    full_at(4)
    events = run_training(recipe("checkpoint.on_error=continue"), tmp_path / "run")
    told = [event.sentence for event in events if isinstance(event, Noticed)]
    assert told == [f"a checkpoint was not written, and training goes on: {FULL}"]
    assert isinstance(events[-1], Finished)
    assert [step for step, _ in list_checkpoints(tmp_path / "run")] == [8, 12]


@pytest.mark.parametrize(("choice", "step"), [("stop", 4), ("continue", 12)])
def test_else_and_at_the_end_a_run_ends_with_the_error(recipe, tmp_path, full_at, choice, step):
    full_at(step)
    with pytest.raises(OSError, match="No space left"):
        run_training(recipe(f"checkpoint.on_error={choice}"), tmp_path / "run")
    written = [step for step, _ in list_checkpoints(tmp_path / "run")]
    assert written == [before for before in (4, 8) if before < step]


def test_ephemeral_checkpoints_are_written_between_those_that_last(recipe, tmp_path):
    asked = recipe("checkpoint.ephemeral_every_steps=3", "checkpoint.keep_last=9")
    run_training(asked, tmp_path / "run", stop_after=7)
    assert [step for step, _ in list_checkpoints(tmp_path / "run")] == [4, 7]
    run_training(asked, tmp_path / "run", stop_after=9)
    assert [step for step, _ in list_checkpoints(tmp_path / "run")] == [4, 7, 8, 9]


@pytest.fixture
def beside_training(monkeypatch):
    """Write checkpoints as of a GPU, from copies, slowly and while training goes on."""
    copy, write = saving_whole.on_host, run_folder.write_checkpoint
    began, ended = [], []

    def write_slowly(run, step, *contents):
        began.append(step)
        time.sleep(0.3)
        written = write(run, step, *contents)
        ended.append(step)
        return written

    def copied(tensors):
        return {name: tensor.clone() for name, tensor in copy(tensors).items()}

    def go():
        monkeypatch.setattr(saving_whole, "on_host", copied)
        monkeypatch.setattr(saving_whole, "wait", lambda written: None)
        monkeypatch.setattr(run_folder, "write_checkpoint", write_slowly)
        return began, ended

    return go


def test_a_checkpoint_written_beside_training_is_of_its_step(recipe, tmp_path, beside_training):
    keys = ("checkpoint.keep_last=9", "checkpoint.every_steps=5")
    run_training(recipe(*keys), tmp_path / "waiting")
    began, ended = beside_training()
    steps_meanwhile = []

    def count(event):
        steps_meanwhile.append(len(began) - len(ended))

    run_training(recipe(*keys), tmp_path / "beside", stop_after=11, told=count)
    run_training(recipe(*keys), tmp_path / "beside")
    assert sum(steps_meanwhile) > 0, "training went on while a checkpoint was written"
    assert losses(tmp_path / "beside") == losses(tmp_path / "waiting")
    for step in (5, 10, 12):
        runs = (tmp_path / "waiting", tmp_path / "beside")
        paths = [run_folder.checkpoint_path(run, step) for run in runs]
        waiting, beside = (
            {file.name: file.read_bytes() for file in path.rglob("*.safetensors")} for path in paths
        )
        assert waiting == beside
        run_folder.read_checkpoint(paths[1])


def test_a_disk_that_is_full_beside_training_is_told(recipe, tmp_path, full_at, beside_training):
    beside_training()
    full_at(4)
    events = run_training(recipe("checkpoint.on_error=continue"), tmp_path / "run")
    told = [event.sentence for event in events if isinstance(event, Noticed)]
    assert told == [f"a checkpoint was not written, and training goes on: {FULL}"]
    assert [step for step, _ in list_checkpoints(tmp_path / "run")] == [8, 12]
