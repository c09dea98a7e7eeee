"""`--resume RUN`: a run goes on by its folder alone."""

import json

import pytest

from illada_cli.train.options import PretrainOptions
from illada_cli.train.run import launches, processes
from illada_core.training.recipe.files import load_recipe
from tests.cli.train.test_pretrain import losses
from tests.training.test_loop import run_training


@pytest.fixture
def run(tiny, tmp_path):
    """A run that was stopped after five steps; its recipe lies beside it."""
    run_training(load_recipe(tiny()), tmp_path / "run", stop_after=5)
    return tmp_path / "run"


def test_a_run_goes_on_with_nothing_else_said(illada, run, tmp_path):
    run_training(load_recipe(tmp_path / "tiny.toml"), tmp_path / "whole")
    done = illada("pretrain", "--resume", "run")
    assert done.stdout == "run/model\n"
    assert "going on from run/checkpoints/step-000000005" in done.stderr
    assert losses(run) == losses(tmp_path / "whole")
    start = json.loads((run / "environment.json").read_text())["starts"][-1]
    assert (start["directory"], start["local_world"]) == (str(tmp_path), 1)


def test_what_may_change_is_changed_and_what_may_not_is_refused(illada, run):
    changes = ("--set", "checkpoint.keep_last=7", "--set", "optimizer.peak_lr=1")
    done = illada("pretrain", "--resume", "run", *changes, code=2)
    assert "another recipe: optimizer.peak_lr changed" in done.stderr
    plan = illada("pretrain", "--resume", "run", *changes[:2], "--dry-run").stdout
    assert "keep_last = 7" in plan


def test_data_that_moved_are_asked_for(illada, run, packed):
    packed.rename(packed.with_name("elsewhere"))
    done = illada("pretrain", "--resume", "run", code=2)
    assert done.stderr.splitlines() == [
        f"illada: the data of run are no longer at {packed}",
        "",
        "hint: say where they are: --data DIR",
    ]
    illada("pretrain", "--resume", "run", "--data", "elsewhere", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--resume", "run", "tiny.toml"], "a recipe cannot be given"),
        (["--resume", "run", "-o", "other"], "--output cannot be given"),
        (["--resume", "run", "--fresh"], "--fresh cannot be given"),
        (["--resume", "run", "--ckpt", "run"], "--ckpt cannot be given"),
        (["--resume", "nowhere"], "nowhere is not the folder of a run"),
        ([], "there is nothing to train"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(illada, arguments, sentence):
    done = illada("pretrain", *arguments, code=2)
    assert sentence in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[2].startswith("hint: ")


def test_a_run_keeps_its_number_of_processes(run):
    assert not launches(PretrainOptions(resume=run))
    (run / "environment.json").write_text('{"starts": [{"local_world": 3, "world": 6}]}')
    asked = PretrainOptions(resume=run)
    assert launches(asked)
    assert processes(asked) == 3
    assert processes(PretrainOptions(resume=run, nproc=2)) == 2
    assert processes(PretrainOptions(recipe="tiny")) == 1
