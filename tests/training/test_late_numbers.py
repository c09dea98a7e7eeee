"""Numbers of a step that are read one step late change nothing that a run leaves behind."""

import pytest

from illada_core.diffusion.denoiser import Sums
from illada_core.model.transfer import Fetched
from illada_core.training import loop, run_folder
from illada_core.training.events import StepDone
from tests.training.test_loop import losses, run_training

PLATEAU = (
    "run.total_tokens=2560",
    "schedule.plateau=true",
    "schedule.plateau_window_tokens=256",
    "schedule.plateau_windows=1",
    "schedule.plateau_drop=1",
)


@pytest.fixture
def late(monkeypatch):
    """Let no number be there before it is waited for, as if a device were still busy."""
    return lambda: monkeypatch.setattr(Fetched, "is_here", False)


def spoil_steps(monkeypatch, steps):
    """Make the losses of some steps, counted from 1, not a number."""
    made, train_step = [], loop.train_step

    def spoilt(denoiser, optimizer, micro_batches, objective, *rest):
        made.append(1)

        def bad(denoiser, noisy):
            nats, nll_M = objective(denoiser, noisy)
            return Sums(nats * float("nan"), nll_M)

        chosen = bad if len(made) in steps else objective
        return train_step(denoiser, optimizer, micro_batches, chosen, *rest)

    monkeypatch.setattr(loop, "train_step", spoilt)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("validation.every_steps=3", "checkpoint.every_steps=4"),
        ("checkpoint.ephemeral_every_steps=2",),
        PLATEAU,
    ],
    ids=["plain", "validated", "saved", "plateau"],
)
def test_a_run_is_the_same(recipe, tmp_path, late, changes):
    run_training(recipe(*changes), tmp_path / "now")
    late()
    run_training(recipe(*changes), tmp_path / "late")
    assert losses(tmp_path / "late") == losses(tmp_path / "now")
    if changes == PLATEAU:
        assert any(line.get("reason") == "plateau" for line in losses(tmp_path / "now"))


def test_a_stopped_run_is_resumed_exactly(recipe, tmp_path, late):
    run_training(recipe(), tmp_path / "now")
    late()
    run_training(recipe(), tmp_path / "late", stop_after=5)
    run_training(recipe(), tmp_path / "late")
    assert losses(tmp_path / "late") == losses(tmp_path / "now")


def test_a_requested_decay_begins_at_the_same_step(recipe, tmp_path, late):
    for name in ("now", "late"):
        if name == "late":
            late()
        run_training(recipe(), tmp_path / name, stop_after=1)
        (tmp_path / name / run_folder.DECAY).write_text("384\n")
        run_training(recipe(), tmp_path / name)
    assert any(line.get("reason") == "request" for line in losses(tmp_path / "now"))
    assert losses(tmp_path / "late") == losses(tmp_path / "now")


def test_dropped_steps_are_the_same(recipe, tmp_path, late, monkeypatch):
    spoil_steps(monkeypatch, {3, 4, 9, 12 + 3, 12 + 4, 12 + 9})
    run_training(recipe(), tmp_path / "now")
    late()
    run_training(recipe(), tmp_path / "late")
    assert losses(tmp_path / "late") == losses(tmp_path / "now")


def test_the_next_step_is_asked_for_before_the_numbers_are_read(
    recipe, tmp_path, late, monkeypatch
):
    asked, train_step = [], loop.train_step

    def counted(*arguments):
        asked.append(1)
        return train_step(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    late()
    told = {}
    real = loop.record_step

    def noted(session, *rest):
        event = real(session, *rest)
        if isinstance(event, StepDone):
            told[event.step] = len(asked)
        return event

    monkeypatch.setattr(loop, "record_step", noted)
    run_training(recipe("checkpoint.every_steps=4"), tmp_path / "run")
    assert told[1] == 2
    assert told[2] == 3
    assert told[4] == 4, "a checkpoint holds what was known of its step"
