"""Metrics sent elsewhere too, to modules that stand in for the packages."""

import sys
from types import SimpleNamespace

import pytest

from illada_core.errors import DataError, UsageError
from illada_core.training.events import Finished, Noticed
from illada_core.training.lines import read_metrics
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from tests.training.test_loop import CPU, losses, run_training


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_hears_every_number_and_knows_a_run_again(recipe, tmp_path, monkeypatch, name):
    begun, heard, ended = [], [], []
    stand_in = SimpleNamespace(
        init=lambda **told: begun.append(told),
        log=lambda numbers, step: heard.append((step, numbers)),
        finish=lambda: ended.append(1),
        __spec__=SimpleNamespace(name=name),
    )
    monkeypatch.setitem(sys.modules, name, stand_in)
    asked = recipe(f"log.tracker={name}", "run.total_tokens=768")
    run_training(asked, tmp_path / "run", stop_after=2)
    run_training(asked, tmp_path / "run")
    losses = {step: told["step/loss"] for step, told in heard if "step/loss" in told}
    steps = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "step"]
    assert losses == {line["step"]: line["loss"] for line in steps}
    assert [step for step, told in heard if "step/loss" in told] == [1, 2, 3, 4, 5, 6]
    assert len(ended) == 2
    assert begun[0] == begun[1]
    assert begun[0]["name"] == "run"
    assert begun[0]["resume"] == "allow"
    assert begun[0]["config"]["batch.rows"] == 4
    assert ("id" in begun[0]) == (name == "wandb")


def failing(after):
    """Return a call that raises once it was made `after` times, and how often it was."""
    calls = []

    def call(*arguments, **told):
        calls.append(1)
        if len(calls) > after:
            raise ConnectionError("no network\nmore of it")

    return call, calls


@pytest.mark.parametrize(
    ("place", "after", "logged"), [("init", 0, 0), ("log", 0, 1), ("log", 3, 4), ("finish", 0, 14)]
)
def test_a_tracker_that_fails_is_told_once_and_ends_no_run(
    recipe, tmp_path, monkeypatch, place, after, logged
):
    """Twelve steps, a validation and the end are the same without it; no more is sent to it."""
    calls = {name: failing(after if name == place else 99) for name in ("init", "log", "finish")}
    stand_in = SimpleNamespace(__spec__=SimpleNamespace(name="wandb"))
    vars(stand_in).update({name: call for name, (call, _) in calls.items()})
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    run_training(recipe("schedule.decay=none"), tmp_path / "alone")
    asked = recipe("schedule.decay=none", "log.tracker=wandb")
    events = run_training(asked, tmp_path / "run")
    told = [event.sentence for event in events if isinstance(event, Noticed)]
    assert told == ["wandb takes no more of this run, which metrics.jsonl has all of: no network"]
    assert losses(tmp_path / "run") == losses(tmp_path / "alone")
    assert len(calls["log"][1]) == logged
    assert len(calls["finish"][1]) == (place != "init"), "what it has is sent"


def test_a_package_that_cannot_be_imported_ends_no_run(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("illada_core.training.setup.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "trackio", None)
    events = run_training(recipe("log.tracker=trackio", "run.total_tokens=768"), tmp_path / "run")
    assert [event.sentence for event in events if isinstance(event, Noticed)] == [
        "trackio takes no more of this run, which metrics.jsonl has all of: "
        "import of trackio halted; None in sys.modules"
    ]
    assert isinstance(events[-1], Finished)


def test_the_error_that_ends_a_run_is_not_hidden_by_its_tracker(recipe, tmp_path, monkeypatch):
    call, calls = failing(0)
    quiet = SimpleNamespace(name="wandb")
    stand_in = SimpleNamespace(
        init=dict, log=lambda numbers, step: None, finish=call, __spec__=quiet
    )
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    setup = prepare(recipe("log.tracker=wandb"))
    with (
        pytest.raises(DataError, match="the data are gone"),
        open_session(setup, tmp_path / "run", CPU, fresh=False),
    ):
        raise DataError("the data are gone")
    assert calls


def test_a_tracker_that_is_not_installed_is_told(recipe, monkeypatch):
    monkeypatch.setattr("illada_core.training.setup.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"log\.tracker needs the package wandb") as caught:
        prepare(recipe("log.tracker=wandb"))
    assert "--set log.tracker=none" in caught.value.hint
