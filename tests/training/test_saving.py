"""A checkpoint that cannot be written ends a run, or costs it that checkpoint and no more."""

import pytest

from illada_core.model.finding import list_checkpoints
from illada_core.training import run_folder
from illada_core.training.events import Finished, Noticed
from tests.training.test_loop import run_training

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
