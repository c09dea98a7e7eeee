"""Metrics sent elsewhere too, to modules that stand in for the packages."""

import sys
from types import SimpleNamespace

import pytest

from illada_core.errors import UsageError
from illada_core.training.lines import read_metrics
from illada_core.training.setup import prepare
from tests.training.test_loop import run_training


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


def test_a_tracker_that_is_not_installed_is_told(recipe, monkeypatch):
    monkeypatch.setattr("illada_core.training.setup.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"log\.tracker needs the package wandb") as caught:
        prepare(recipe("log.tracker=wandb"))
    assert "--set log.tracker=none" in caught.value.hint
