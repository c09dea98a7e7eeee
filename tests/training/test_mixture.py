"""Runs on a mixture: resumed exactly, changed at a step with a note (laws 2, 3 and 4)."""

from dataclasses import replace

import pytest

from illada_core.errors import CheckpointError, UsageError
from illada_core.training.checkpoint import Progress
from illada_core.training.events import Noticed
from illada_core.training.mixing import phases_of
from illada_core.training.setup import prepare
from tests.training.test_loop import losses, run_training
from tests.training.tiny import tiny_recipe, write_packed


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    for name, rows in (("web", 24), ("code", 17)):
        write_packed(folder / name, rows)
    return folder


def mixed(packed, **weights):
    recipe = tiny_recipe(packed / "web")
    mixture = tuple(f"{packed / name}={weight}" for name, weight in weights.items())
    return replace(recipe, data=replace(recipe.data, path="", mixture=mixture))


def mixtures_in(run):
    return [line for line in losses(run) if line["kind"] == "mixture"]


def test_a_run_on_a_mixture_resumes_bit_for_bit(packed, tmp_path):
    recipe = mixed(packed, web=3, code=1)
    events = run_training(recipe, tmp_path / "whole")
    run_training(recipe, tmp_path / "stopped", stop_after=3)
    run_training(recipe, tmp_path / "stopped", stop_after=7)
    run_training(recipe, tmp_path / "stopped")
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    (line,) = mixtures_in(tmp_path / "whole")
    assert (line["step"], [each["share"] for each in line["sources"]]) == (1, [0.75, 0.25])
    told = [event.sentence for event in events if isinstance(event, Noticed)]
    assert any(text.startswith("from step 1 on the rows are 75.0% ") for text in told)


def test_a_mixture_of_one_trains_as_the_dataset_does(packed, tmp_path):
    run_training(tiny_recipe(packed / "web"), tmp_path / "plain")
    run_training(mixed(packed, web=5), tmp_path / "mixed")
    kept = [line for line in losses(tmp_path / "mixed") if line["kind"] != "mixture"]
    assert kept == losses(tmp_path / "plain")


def test_a_mixture_changes_at_a_step_with_a_note(packed, tmp_path):
    before, after = mixed(packed, web=3, code=1), mixed(packed, web=1, code=3)
    run = tmp_path / "run"
    run_training(before, run, stop_after=4)
    run_training(after, run, stop_after=8)
    run_training(after, run)
    assert [(line["step"], line["sources"][0]["share"]) for line in mixtures_in(run)] == [
        (1, 0.75),
        (5, 0.25),
    ]
    other = tmp_path / "other"
    run_training(before, other, stop_after=4)
    run_training(after, other)
    assert losses(other) == losses(run)
    run_training(before, tmp_path / "unchanged")
    steps = [
        [x for x in losses(each) if x["kind"] == "step"] for each in (run, tmp_path / "unchanged")
    ]
    assert steps[0][:4] == steps[1][:4]
    assert steps[0][4:] != steps[1][4:]


def test_a_run_on_one_dataset_may_go_on_as_a_mixture_but_not_silently_back(packed, tmp_path):
    run = tmp_path / "run"
    run_training(tiny_recipe(packed / "web"), run, stop_after=3)
    run_training(mixed(packed, web=1, code=1), run, stop_after=6)
    assert [line["step"] for line in mixtures_in(run)] == [4]
    with pytest.raises(UsageError, match="this run is trained on a mixture"):
        run_training(tiny_recipe(packed / "web"), run)
    run_training(mixed(packed, web=1), run)
    assert [line["step"] for line in mixtures_in(run)] == [4, 7]


@pytest.mark.parametrize(
    "told",
    [
        "x",
        [1],
        [{"first_place": 0}],
        [{"first_place": 4, "slots": [["a", 16384]]}],
        [{"first_place": 0, "slots": [["a", 1]]}],
        [{"first_place": 0, "slots": [["a", 16384]]}] * 2,
    ],
)
def test_a_damaged_mixture_of_a_checkpoint_is_one_sentence(packed, tmp_path, told):
    setup = prepare(mixed(packed, web=1))
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        phases_of(setup, {"mixture": told}, tmp_path, Progress(step=3).step)


def test_data_is_a_dataset_or_a_mixture(packed):
    recipe = mixed(packed, web=1)
    with pytest.raises(UsageError, match=r"give one of data\.path and data\.mixture"):
        replace(recipe, data=replace(recipe.data, path="web"))


def test_epochs_count_passes_over_all_sources(packed):
    setup = prepare(mixed(packed, web="2x", code="1x"))
    recipe = replace(setup.recipe.run, total_tokens=0, epochs=1.0)
    full = prepare(replace(mixed(packed, web="2x", code="1x"), run=recipe))
    assert full.schedule.total_tokens == (2 * 24 + 17) * 32
