"""`--resume RUN`: a run goes on by its folder alone."""

import json
from dataclasses import replace

import pytest

from illada_cli.ranks import Machines
from illada_cli.train.machines import find_machines
from illada_cli.train.options import PretrainOptions
from illada_cli.train.run import how_to_start, launches
from illada_core.errors import UsageError
from illada_core.training.recipe.files import load_recipe
from illada_core.training.resuming import Launch
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


def started(run, **told):
    """Let a run have been started last as is told."""
    (run / "environment.json").write_text(json.dumps({"starts": [told]}))


def test_ranks_are_started_as_they_were_but_for_what_is_given(run):
    assert how_to_start(PretrainOptions(resume=run)) == Launch()
    started(run, local_world=3, world=3, nodes="1", restarts=5)
    asked = PretrainOptions(resume=run)
    assert how_to_start(asked) == Launch(3, "1", 5)
    assert launches(asked, how_to_start(asked))
    alone = PretrainOptions(resume=run, nproc=1, restarts=0)
    assert how_to_start(alone) == Launch()
    assert not launches(alone, how_to_start(alone))
    assert how_to_start(PretrainOptions(resume=run, nproc=2)) == Launch(2, "1", 5)
    assert how_to_start(PretrainOptions(recipe="tiny", restarts=1)) == Launch(1, "1", 1)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"nodes": "2", "restarts": 0}, "with --nodes 2: --nodes 2 needs --node and --meet"),
        ({}, "with --nodes 2: --nodes 2 needs --node and --meet"),  # ranks that torchrun started
        ({"nodes": "auto"}, "with --nodes auto: --nodes auto asks Slurm, but SLURM_NNODES is not"),
    ],
)
def test_a_run_of_several_machines_goes_on_on_one_only_if_that_is_said(
    illada, run, told, sentence, monkeypatch
):
    """Which of them this is, and where they meet, no run can know."""
    monkeypatch.delenv("SLURM_NNODES", raising=False)
    started(run, local_world=1, world=2, **told)
    done = illada("pretrain", "--resume", "run", code=2)
    assert done.stderr.startswith(f"illada: run was last started {sentence}")
    assert done.stderr.endswith("; or go on with this machine alone: --nodes 1\n")


def test_told_which_of_them_this_is_a_machine_takes_part_as_before(run):
    started(run, local_world=4, world=8, nodes="2", restarts=1)
    asked = PretrainOptions(resume=run, node=1, meet="gpu01:29400")
    start = how_to_start(asked)
    assert start == Launch(4, "2", 1)
    assert find_machines(asked, start.nodes) == Machines(2, 1, "gpu01", 29400)
    with pytest.raises(UsageError, match="--node 2 of 2 machines") as caught:
        find_machines(replace(asked, node=2), start.nodes)
    assert caught.value.hint == "go on with this machine alone: --nodes 1"


def test_restarts_are_kept_and_said_until_others_are_given(illada, tiny, tmp_path):
    illada("pretrain", tiny("run.total_tokens=768"), "-o", "run", "--restarts", "2")
    done = illada("pretrain", "--resume", "run")
    assert done.stderr.splitlines()[0] == "ranks as at its last start: --restarts 2"
    done = illada("pretrain", "--resume", "run", "--restarts", "1")
    assert "last start" not in done.stderr
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())["starts"]
    assert [(start["nodes"], start["restarts"]) for start in starts] == [
        ("1", 2),
        ("1", 2),
        ("1", 1),
    ]
