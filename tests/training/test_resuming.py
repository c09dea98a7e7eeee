"""A run's folder is all that is needed to go on with it, wherever the command is given."""

import json

import pytest

from illada_core.errors import CheckpointError, UsageError
from illada_core.training.recipe.files import load_recipe
from illada_core.training.resuming import (
    Launch,
    check_data_are_there,
    found_again,
    last_start,
    recipe_to_resume,
)
from tests.training.test_loop import losses, run_training
from tests.training.tiny import tiny_recipe, write_packed


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with packed data, and in it a run that was stopped after five steps."""
    folder = tmp_path / "project"
    write_packed(folder / "packed")
    monkeypatch.chdir(folder)
    run_training(tiny_recipe("packed"), folder / "run", stop_after=5)
    return folder


def test_from_anywhere_a_run_gives_the_losses_of_one_that_never_stopped(
    project, tmp_path, monkeypatch
):
    run_training(tiny_recipe("packed"), project / "whole")
    monkeypatch.chdir(tmp_path)
    recipe = recipe_to_resume(project / "run")
    assert recipe.data.path == str(project / "packed")
    assert run_training(recipe, project / "run")[0].step == 5
    assert losses(project / "run") == losses(project / "whole")
    monkeypatch.chdir(project)
    assert recipe_to_resume(project / "run").data.path == str(project / "packed")


def test_where_it_was_started_a_run_keeps_its_relative_paths(project):
    assert recipe_to_resume(project / "run") == load_recipe(project / "run" / "recipe.toml")


def test_a_moved_project_is_found_where_it_is_now(project, tmp_path, monkeypatch):
    moved = project.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    recipe = recipe_to_resume(moved / "run")
    assert recipe.data.path == "packed"
    check_data_are_there(moved / "run", recipe)


def test_all_places_are_found_but_those_that_are_given_anew(project, tmp_path, monkeypatch):
    write_packed(project / "code")
    before = tiny_recipe("", "data.mixture=['packed=3', 'code=1']", "data.holdout=code/validation")
    monkeypatch.chdir(tmp_path)
    found = found_again(before, before, project / "run").data
    assert found.mixture == (f"{project}/packed=3", f"{project}/code=1")
    assert found.holdout == f"{project}/code/validation"
    given = tiny_recipe("", "data.mixture=['code=1']", "data.holdout=code/validation")
    assert found_again(given, before, project / "run").data.mixture == ("code=1",)
    changed = recipe_to_resume(project / "run", ["data.path=packed"])
    assert changed.data.path == str(project / "packed")
    assert recipe_to_resume(project / "run", ["data.path=code"]).data.path == "code"
    far = tiny_recipe("", "data.path=s3://bucket/packed", "model.ckpt=owner/name")
    assert found_again(far, far, project / "run") == far
    check_data_are_there(project / "run", far)


def test_a_base_may_go_by_another_path_than_it_did(project, tmp_path, monkeypatch):
    run_training(tiny_recipe("packed", "run.total_tokens=512"), project / "base")
    run_training(tiny_recipe("packed", "model.ckpt=base"), project / "tuned", stop_after=3)
    monkeypatch.chdir(tmp_path)
    recipe = recipe_to_resume(project / "tuned")
    assert recipe.model.ckpt == str(project / "base")
    assert run_training(recipe, project / "tuned", stop_after=4)[0].step == 3
    other = tiny_recipe(project / "packed", f"model.ckpt={project / 'run'}")
    with pytest.raises(UsageError, match=r"model\.ckpt changed"):
        run_training(other, project / "tuned")


def test_lost_data_are_told_by_their_place_and_option(project):
    (project / "packed").rename(project / "elsewhere")
    with pytest.raises(UsageError, match="are no longer at packed") as caught:
        check_data_are_there(project / "run", recipe_to_resume(project / "run"))
    assert caught.value.hint == "say where they are: --data DIR"
    moved = recipe_to_resume(project / "run", ["data.path=elsewhere"])
    check_data_are_there(project / "run", moved)
    assert run_training(moved, project / "run", stop_after=6)[0].step == 5
    write_packed(project / "packed", rows=25)
    other = recipe_to_resume(project / "run", ["data.path=packed"])
    with pytest.raises(UsageError, match="the dataset has changed"):
        run_training(other, project / "run")


def test_a_run_from_before_places_were_told_is_looked_for_here(project):
    path = project / "run" / "environment.json"
    path.write_text('{"starts": [{"step": 0}]}')
    assert last_start(project / "run") == (project, Launch())
    for name, value in (("directory", 5), ("nodes", 2), ("restarts", -1), ("world", "4")):
        path.write_text(json.dumps({"starts": [{name: value}]}))
        with pytest.raises(CheckpointError, match=name):
            last_start(project / "run")
