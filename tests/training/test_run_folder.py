"""Checkpoints are complete or absent, damage is found, and nothing foreign is deleted."""

import json

import pytest

from illada_core.errors import CheckpointError, UsageError
from illada_core.files import LOCK
from illada_core.model.finding import find_model, list_checkpoints, newest_checkpoint
from illada_core.training import run_folder
from illada_core.training.recipe.keys import CheckpointKeys


def fill(folder):
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"w" * 1000)
    (folder / "moments").write_bytes(b"m" * 2000)


def checkpoint(run, step):
    return run_folder.write_checkpoint(run, step, fill, {"step": step})


def test_a_checkpoint_gives_back_its_state(tmp_path):
    path = checkpoint(tmp_path, 7)
    assert run_folder.read_checkpoint(path) == {"step": 7}
    assert newest_checkpoint(tmp_path) == path


def test_the_newest_checkpoint_is_found_by_listing(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoints" / ".partial-step-000000200").mkdir()
    (tmp_path / "checkpoints" / "step-300.txt").write_text("")
    assert newest_checkpoint(tmp_path).name == "step-000000100"


def truncate(path):
    data = (path / "moments").read_bytes()
    (path / "moments").write_bytes(data[:-1])


def flip(path):
    data = bytearray((path / "model" / "weights").read_bytes())
    data[500] ^= 1
    (path / "model" / "weights").write_bytes(bytes(data))


def change_state(path):
    content = json.loads((path / "state.json").read_text())
    content["state"]["step"] = 8
    (path / "state.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, "moments has 1999 bytes instead of 2000"),
        (flip, "weights was changed after it was written"),
        (change_state, r"state\.json was changed after it was written"),
        (lambda path: (path / "moments").unlink(), "moments is missing"),
        (lambda path: (path / "state.json").unlink(), "missing or damaged"),
        (lambda path: (path / "state.json").write_text("{"), "is not valid JSON"),
        (lambda path: (path / "state.json").write_text("[]"), "holds no JSON object"),
    ],
)
def test_a_damaged_checkpoint_is_told_with_what_to_do(tmp_path, damage, sentence):
    path = checkpoint(tmp_path, 7)
    damage(path)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        run_folder.read_checkpoint(path)
    assert "delete" in caught.value.hint


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path):
    before = checkpoint(tmp_path, 1)

    def full_disk(folder):
        fill(folder)
        raise OSError(28, "No space left on device", "moments")

    with pytest.raises(OSError, match="No space left"):
        run_folder.write_checkpoint(tmp_path, 2, full_disk, {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [before.name]
    assert run_folder.read_checkpoint(before) == {"step": 1}


def test_keep_policy_keeps_the_newest_and_the_multiples(tmp_path):
    for step in (10, 20, 30, 40, 50):
        checkpoint(tmp_path, step)
    run_folder.prune_checkpoints(tmp_path, CheckpointKeys(keep_last=2, keep_every_steps=20))
    assert [step for step, _ in list_checkpoints(tmp_path)] == [20, 40, 50]


def test_an_ephemeral_checkpoint_is_kept_until_there_is_another(tmp_path):
    """It takes no place of those that last, and what a stop has left is none."""
    keys = CheckpointKeys(every_steps=20, ephemeral_every_steps=5, keep_last=2)
    for step in (20, 25, 33, 35, 40, 45, 50):
        checkpoint(tmp_path, step)
        run_folder.prune_checkpoints(tmp_path, keys)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [33, 40, 50]


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    checkpoint(tmp_path, 1)
    (tmp_path / "movie.partial").write_text("mine")
    (tmp_path / ".partial-holiday").mkdir()
    (tmp_path / "checkpoints" / ".partial-notes").mkdir()
    (tmp_path / "checkpoints" / ".partial-old-step-000000009").mkdir()
    (tmp_path / ".partial-model").mkdir()
    (tmp_path / "checkpoints" / ".partial-step-000000002").mkdir()
    (tmp_path / "recipe.toml.partial").write_text("half")
    run_folder.remove_leftovers(tmp_path)
    left = {path.name for path in tmp_path.rglob("*partial*")}
    assert left == {"movie.partial", ".partial-holiday", ".partial-notes"}
    assert newest_checkpoint(tmp_path) is not None


def test_starting_over_deletes_nothing_foreign(tmp_path):
    checkpoint(tmp_path, 1)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "notes.txt").write_text("mine")
    run_folder.start_over(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_ckpt_means_the_model_of_the_newest_checkpoint(tmp_path):
    run, model = tmp_path / "run", tmp_path / "model"
    for folder in (model, run / "model"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (run / "recipe.toml").write_text("")
    assert find_model(model) == model
    assert find_model(run) == run / "model"

    def with_config(folder):
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text("{}")

    path = run_folder.write_checkpoint(run, 5, with_config, {})
    assert find_model(run) == path / "model"
    assert find_model(path) == path / "model"


def test_ckpt_that_means_nothing_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="no such model"):
        find_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match="neither a model"):
        find_model(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(CheckpointError, match="no complete checkpoint yet"):
        find_model(tmp_path)


def test_a_folder_that_no_run_has_made_is_refused_before_anything_is_touched(tmp_path):
    for name, content in (("movie.partial", "mine"), ("environment.json", '{"other": 1}')):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(UsageError, match=f"not the folder of a run, but holds {name}"):
            run_folder.refuse_foreign(folder)
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_folder_that_a_run_has_only_begun_is_its_own(tmp_path):
    run_folder.refuse_foreign(tmp_path / "new")
    run_folder.refuse_foreign(tmp_path)
    (tmp_path / LOCK).touch()
    (tmp_path / "environment.json.partial").write_text("{")
    run_folder.refuse_foreign(tmp_path)
    (tmp_path / "environment.json").write_text('{"starts": []}')
    (tmp_path / "notes.txt").write_text("mine")
    run_folder.refuse_foreign(tmp_path)
