"""Settings changed at a resume: each a stretch, told of, and no row lost or seen twice by it."""

import json
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
import torch
from safetensors.torch import load_file

from illada_core.data.batches import Share, read_batch
from illada_core.diffusion.corruption import Corruption, corrupt
from illada_core.errors import CheckpointError, UsageError
from illada_core.model.finding import list_checkpoints, newest_checkpoint
from illada_core.training import run_folder
from illada_core.training.events import Finished, Noticed
from illada_core.training.lines import read_metrics
from illada_core.training.run_folder import remove_folder
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.source import noisy_rows
from illada_core.training.stretches import Stretch, changes_since, go_on, place_after
from tests.training.test_loop import CPU, losses, run_training

ROWS = 24  # of the tiny dataset; 4 a step


def steps_of(run):
    return [line for line in losses(run) if line["kind"] == "step"]


def told(events):
    return [event.sentence for event in events if isinstance(event, Noticed)]


def test_another_batch_size_is_a_stretch_of_its_own(recipe, tmp_path):
    run = tmp_path / "run"
    run_training(recipe(), run, stop_after=5)
    events = run_training(recipe("batch.rows=7"), run, stop_after=7)
    assert told(events) == ["from step 6 on: batch.rows = 7 (was 4)"]
    assert [line["tokens"] for line in steps_of(run)] == [
        32 * n for n in (4, 8, 12, 16, 20, 27, 34)
    ]
    lines = [line for line in read_metrics(run) if line["kind"] == "stretch"]
    changed = {"batch.rows": [4, 7]}
    assert lines == [{"kind": "stretch", "step": 6, "tokens": 640, "changed": changed}]
    state = run_folder.read_checkpoint(newest_checkpoint(run))
    first, second = state["stretches"]
    assert (first["first_step"], first["first_place"]) == (0, 0)
    assert first["settings"]["batch.rows"] == 4
    assert second == {"first_step": 5, "first_place": 20, "settings": {"batch.rows": 7}}
    assert told(run_training(recipe("batch.rows=7"), run, stop_after=8)) == []


@pytest.mark.parametrize(("ratio", "world"), [("uniform", 1), ("stratified", 1), ("uniform", 3)])
def test_each_row_comes_once_an_epoch_whatever_the_stretches(recipe, tmp_path, ratio, world):
    run, seen, notes = tmp_path / "run", Counter(), []
    asked = recipe(f"objective.ratio={ratio}", "run.total_tokens=1e6")
    for rows, stop_after in ((4, 3), (7, 6), (2, 8), (5, 12)):
        changed = replace(asked, batch=replace(asked.batch, rows=rows))
        with open_session(prepare(changed), run, CPU, fresh=False) as session:
            first = session.progress.step
            share, rule, dataset = session.share, session.corruption, session.setup.train
        shares = [replace(share, rank=rank, world=world) for rank in range(world)]
        for step, share in product(range(first, stop_after), shares):
            for places in filter(len, share.micro_places(step)):
                seen.update(places)
                batch = read_batch(dataset, places, rule.seed)
                notes += list(zip(batch.epochs_R.tolist(), batch.rows_R.tolist(), strict=True))
        run_training(changed, run, stop_after)
    count = 3 * 4 + 3 * 7 + 2 * 2 + 4 * 5
    assert seen == Counter(range(count))
    assert len(set(notes)) == len(notes)
    assert {note for note in notes if note[0] < count // ROWS} == {
        (epoch, row) for epoch in range(count // ROWS) for row in range(ROWS)
    }


@pytest.mark.parametrize("origin", [-20, 0, 5])
def test_the_ratios_of_a_step_are_spread_evenly_from_any_origin(recipe, origin):
    dataset = prepare(recipe()).train
    rule = Corruption(mask_id=5, seed=1, ratio="stratified", split_probability=0.0)
    share = Share(8, 8, origin=origin)
    (places,) = share.micro_places(4)
    assert places == range(origin + 32, origin + 40)
    noisy = noisy_rows(dataset, rule, share, places)
    cells = {int(ratio * 8) for ratio in noisy.ratio_M.unique().tolist()}
    assert len(cells) >= 7  # of 8, from a start within one of them
    same = corrupt(read_batch(dataset, places, 1), rule, 8, origin)
    assert torch.equal(same.noisy_T, noisy.noisy_T)


def test_killed_after_a_change_a_run_makes_the_same_change_again(recipe, tmp_path):
    """Though recipe.toml has the new settings already: the checkpoint knows the old ones."""
    kept = "checkpoint.keep_last=9"
    for name in ("whole", "killed"):
        run_training(recipe(kept), tmp_path / name, stop_after=5)
        run_training(recipe(kept, "batch.rows=7"), tmp_path / name)
    for step, path in list_checkpoints(tmp_path / "killed"):
        if step > 5:
            remove_folder(path)
    events = run_training(recipe(kept, "batch.rows=7"), tmp_path / "killed")
    assert told(events) == ["from step 6 on: batch.rows = 7 (was 4)"]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_changes_that_no_step_was_made_with_leave_no_stretch():
    begun = (Stretch(0, 0, {"batch.rows": 4, "run.seed": 0}),)
    once = go_on(begun, {"batch.rows": (4, 6)}, 5)
    assert once == (*begun, Stretch(5, 20, {"batch.rows": 6}))
    again = go_on(once, {"batch.rows": (6, 8)}, 5)
    assert again == (*begun, Stretch(5, 20, {"batch.rows": 8}))
    assert go_on(again, {"run.seed": (0, 1)}, 7)[-1] == Stretch(7, 36, {"run.seed": 1})
    assert place_after(again, 7) == 36


def test_what_lies_elsewhere_or_is_only_shown_is_no_change(recipe):
    first = (Stretch(0, 0, {"batch.rows": 4, "checkpoint.every_steps": 4}),)
    same = recipe("data.path=other", "log.tensorboard=true", "plan.devices=3", "run.threads=2")
    assert changes_since(first, same) == {}
    assert changes_since(first, recipe("checkpoint.every_steps=2")) == {
        "checkpoint.every_steps": (4, 2)
    }


def test_a_checkpoint_from_before_stretches_goes_on_as_its_recipe_says(recipe, tmp_path):
    run = tmp_path / "run"
    run_training(recipe(), run, stop_after=5)
    path = newest_checkpoint(run)
    forget(path)
    events = run_training(recipe("batch.rows=7"), run, stop_after=6)
    assert told(events) == ["from step 6 on: batch.rows = 7 (was 4)"]
    assert steps_of(run)[-1]["tokens"] == 640 + 7 * 32


def forget(path, **said):
    """Sign a checkpoint's state again, with other stretches or none."""
    content = json.loads((path / "state.json").read_text())
    del content["sha256"], content["state"]["stretches"]
    content["state"].update(said)
    signed = {**content, "sha256": run_folder.content_sha256(content)}
    (path / "state.json").write_text(json.dumps(signed))


@pytest.mark.parametrize(
    "told",
    [
        [],
        [{"first_step": 1, "first_place": 4, "settings": {"batch.rows": 4}}],
        [{"first_step": 0, "first_place": 0, "settings": {}}],
        [
            {"first_step": 0, "first_place": 0, "settings": {"batch.rows": 4}},
            {"first_step": 3, "first_place": 13, "settings": {}},
        ],
    ],
)
def test_stretches_that_cannot_have_been_are_damage(recipe, tmp_path, told):
    run_training(recipe(), tmp_path / "run", stop_after=5)
    forget(newest_checkpoint(tmp_path / "run"), stretches=told)
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        run_training(recipe(), tmp_path / "run")


def test_a_run_that_is_made_longer_after_its_end_exports_its_last_model(recipe, tmp_path):
    flat, run = recipe("schedule.decay=none", "run.total_tokens=512"), tmp_path / "run"
    run_training(flat, run)
    before = load_file(run / "model" / "model.safetensors")
    run_training(recipe("schedule.decay=none", "run.total_tokens=1024"), run)
    after = load_file(run / "model" / "model.safetensors")
    newest = load_file(newest_checkpoint(run) / "model" / "model.safetensors")
    assert all(torch.equal(after[name], newest[name]) for name in newest)
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    kinds = [(line["kind"], line["step"]) for line in read_metrics(run) if line["kind"] != "step"]
    assert kinds[-1] == ("finished", 8)


def rates(run):
    return [line["lr"] for line in steps_of(run)]


def test_after_its_decay_a_run_warms_up_again_and_decays_again(recipe, tmp_path):
    run = tmp_path / "run"
    run_training(recipe(), run)
    assert rates(run)[-1] == pytest.approx(1e-3)
    with pytest.raises(UsageError, match=r"run\.total_tokens can no longer change") as caught:
        run_training(recipe("run.total_tokens=3072"), run)
    assert "schedule.extension=rewarm" in caught.value.hint
    longer = recipe("run.total_tokens=3072", "schedule.extension=rewarm")
    run_training(longer, run, stop_after=17)
    assert isinstance(run_training(longer, run)[-1], Finished)
    # 256 tokens, two steps, of warm-up from 1e-3; then 1e-2; half of the 12 steps decay.
    assert rates(run)[12:18] == pytest.approx([5.5e-3, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2])
    falling = rates(run)[18:]
    assert falling == sorted(falling, reverse=True)
    assert len(falling) == 6
    assert falling[-1] == pytest.approx(1e-3)
    reasons = [line["reason"] for line in read_metrics(run) if line["kind"] == "decay"]
    assert reasons == ["plan", "plan"]


def test_after_its_decay_a_run_may_stay_at_its_rate(recipe, tmp_path):
    run = tmp_path / "run"
    run_training(recipe(), run)
    longer = recipe("run.total_tokens=2048", "schedule.extension=constant")
    run_training(longer, run, stop_after=14)
    run_training(longer, run)
    assert rates(run)[12:] == pytest.approx([1e-3] * 4)
    run_training(recipe("run.total_tokens=2560", "schedule.extension=rewarm"), run)
    assert rates(run)[16:] == pytest.approx([5.5e-3, 1e-2, 5.5e-3, 1e-3])


def test_a_run_that_is_extended_has_the_losses_of_one_that_was_killed_meanwhile(recipe, tmp_path):
    longer = recipe("run.total_tokens=3072", "schedule.extension=rewarm")
    for name in ("whole", "killed"):
        run_training(recipe("checkpoint.keep_last=9"), tmp_path / name)
    run_training(longer, tmp_path / "whole")
    run_training(longer, tmp_path / "killed", stop_after=15)
    remove_folder(newest_checkpoint(tmp_path / "killed"))
    run_training(longer, tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_the_file_that_asked_for_the_first_decay_does_not_ask_for_the_second(recipe, tmp_path):
    run = tmp_path / "run"
    run_training(recipe(), run, stop_after=3)
    (run / "decay").touch()
    run_training(recipe(), run)
    longer = recipe("run.total_tokens=3072", "schedule.extension=rewarm")
    run_training(longer, run)
    begun = [
        (line["reason"], line["step"]) for line in read_metrics(run) if line["kind"] == "decay"
    ]
    assert begun == [("request", 4), ("plan", 18)], "9 steps made, 15 more: 7.5 of them decay"


def test_an_extension_needs_room_for_its_parts(recipe, tmp_path):
    run_training(recipe(), tmp_path / "run")
    short = recipe("run.total_tokens=1600", "schedule.extension=rewarm")
    with pytest.raises(UsageError, match="do not fit into 64 tokens"):
        run_training(short, tmp_path / "run")
