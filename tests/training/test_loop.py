"""The loop: exact resume, one loss however it is batched, non-finite steps dropped, honest ends."""

import json
from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from illada_core.errors import CheckpointError, DivergedError, UsageError
from illada_core.model.finding import list_checkpoints, newest_checkpoint
from illada_core.training import run_folder
from illada_core.training.events import (
    DecayBegan,
    Finished,
    Noticed,
    Started,
    StepDone,
    StepDropped,
    Validated,
)
from illada_core.training.lines import read_metrics
from illada_core.training.loop import train
from illada_core.training.metrics import StepLines
from illada_core.training.parallel import Ranks
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.source import row_source
from illada_core.training.step import likelihood_bound
from tests.training.tiny import write_packed, write_rows

CPU = Ranks(rank=0, world=1, device=torch.device("cpu"))


def run_training(recipe, run, stop_after=None, fresh=False, ranks=CPU, told=lambda event: None):
    """Train and return the events, of which `told` hears each as it comes.

    `stop_after` asks to stop once that step is done.
    """
    events = []

    def stop():
        return any(getattr(event, "step", 0) == stop_after for event in events)

    with open_session(prepare(recipe), run, ranks, fresh) as session:
        source = row_source(session.rows, session.corruption, session.share)
        for event in train(session, source, likelihood_bound, stop):
            events.append(event)
            told(event)
    return events


def reading(recipe, folder):
    """Return a recipe that reads another dataset."""
    return replace(recipe, data=replace(recipe.data, path=str(folder)))


def losses(run):
    """Return what the metrics say of each step, and of each validation, but for the clock."""
    clock = ("seconds", "tokens_per_s", "mfu")
    return [
        {name: value for name, value in line.items() if name not in clock}
        for line in read_metrics(run)
    ]


def remarked(event):
    return isinstance(event, Noticed)


def first_line(run, kind):
    return next(line for line in losses(run) if line["kind"] == kind)


@pytest.mark.parametrize("stop_after", [1, 4, 7, 11])
def test_resume_is_exact(recipe, tmp_path, stop_after):
    asked = recipe("validation.every_steps=3", "run.compute_dtype=bfloat16")
    run_training(asked, tmp_path / "whole")
    run_training(asked, tmp_path / "parts", stop_after)
    assert newest_checkpoint(tmp_path / "parts").name == f"step-{stop_after:09d}"
    run_training(asked, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    whole, parts = (
        load_file(newest_checkpoint(tmp_path / name) / "model" / "model.safetensors")
        for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_resume_repeats_the_steps_after_the_last_checkpoint(recipe, tmp_path):
    run_training(recipe(), tmp_path / "whole")
    run_training(recipe(), tmp_path / "run", stop_after=7)
    for _, path in list_checkpoints(tmp_path / "run")[1:]:
        run_folder.remove_folder(path)
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'{"kind": "step", "st')
    started = run_training(recipe(), tmp_path / "run")[0]
    assert isinstance(started, Started)
    assert started.step == 4
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_the_bound_falls_to_that_of_the_frequencies(recipe, tmp_path):
    large = write_packed(tmp_path / "large", rows=512)
    events = run_training(reading(recipe("run.total_tokens=10240"), large), tmp_path / "run")
    bound = next(event.loss for event in events if isinstance(event, Validated))
    assert bound == pytest.approx(log(30), rel=0.05), "30 of 128 ids occur, all equally often"
    line = first_line(tmp_path / "run", "validation")
    assert line["bits_per_byte"] == pytest.approx(bound / log(2)), "every token is one byte"
    assert line["perplexity"] == pytest.approx(exp(bound))


@pytest.mark.parametrize("micro_rows", [1, 3, 4, 9])
def test_micro_batches_do_not_matter(recipe, tmp_path, micro_rows):
    found = {}
    for size in (2, micro_rows):
        run_training(recipe(f"batch.micro_rows={size}"), tmp_path / str(size))
        found[size] = [line for line in losses(tmp_path / str(size)) if line["kind"] == "step"]
    for two, other in zip(found[2], found[micro_rows], strict=True):
        assert other["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)


def test_the_seed_decides_the_losses(recipe, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_training(recipe(f"run.seed={seed}", "run.total_tokens=512"), tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


def test_validation_is_under_the_same_noise_whatever_the_seed(recipe, tmp_path):
    found = []
    for name, change in (("a", "run.seed=1"), ("b", "run.seed=2"), ("c", "batch.micro_rows=3")):
        asked = recipe("optimizer.peak_lr=0", "schedule.final_lr=0", "run.seed=1", change)
        run_training(asked, tmp_path / name)
        found.append(first_line(tmp_path / name, "validation"))
    by_seed, by_batch = found[0], found[2]
    assert found[1]["loss"] != by_seed["loss"]
    assert found[1]["held_out_tokens"] == by_seed["held_out_tokens"] == 8 * 32
    assert by_batch["loss"] == pytest.approx(by_seed["loss"], rel=1e-5)
    for one, other in zip(by_seed["loss_by_ratio"], by_batch["loss_by_ratio"], strict=True):
        assert (one is None and other is None) or other == pytest.approx(one, rel=1e-5)


def change_weights(path, change):
    """Change a checkpoint's weights and sign it again, as if it had been written so."""
    file = path / "model" / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    state = json.loads((path / "state.json").read_text())["state"]
    moments = (path / "optimizer.safetensors").read_bytes()

    def fill(folder):
        (folder / "model").mkdir()
        for part in (path / "model").iterdir():
            (folder / "model" / part.name).write_bytes(part.read_bytes())
        (folder / "optimizer.safetensors").write_bytes(moments)

    run_folder.write_checkpoint(path.parents[1], state["progress"]["step"], fill, state)


def spoil_one_token(weights):
    """Make the input embedding of one token infinite: rows that show it give no finite loss."""
    weights["model.embed_tokens.weight"][7] = float("inf")


def test_a_non_finite_step_is_dropped_and_leaves_the_weights_alone(recipe, tmp_path):
    asked = recipe("model.tied=false", "batch.rows=1", "run.total_tokens=640")
    run_training(asked, tmp_path / "run", stop_after=4)
    change_weights(newest_checkpoint(tmp_path / "run"), spoil_one_token)
    asked = replace(asked, run=replace(asked.run, max_bad_steps=100))
    dropped = 0
    for stop_after in range(5, 21):
        path = newest_checkpoint(tmp_path / "run")
        before = load_file(path / "model" / "model.safetensors")
        events = run_training(asked, tmp_path / "run", stop_after)
        after = load_file(newest_checkpoint(tmp_path / "run") / "model" / "model.safetensors")
        head = "lm_head.weight"
        if any(isinstance(event, StepDropped) for event in events):
            dropped += 1
            assert all(torch.equal(before[name], after[name]) for name in before)
        else:
            assert not torch.equal(before[head], after[head])
            assert after[head].isfinite().all()
    assert 0 < dropped < 16
    kinds = [line["kind"] for line in losses(tmp_path / "run")]
    assert kinds.count("dropped") == dropped
    assert b"NaN" not in (tmp_path / "run" / "metrics.jsonl").read_bytes()


def test_too_many_bad_steps_end_the_run_and_keep_the_last_good_checkpoint(recipe, tmp_path):
    asked = recipe("optimizer.peak_lr=1e30", "run.max_bad_steps=3", "checkpoint.every_steps=1")
    with pytest.raises(DivergedError, match="not finite in 3 steps in a row") as caught:
        run_training(asked, tmp_path / "run")
    assert caught.value.code == 3
    path = newest_checkpoint(tmp_path / "run")
    assert str(path) in caught.value.hint
    run_folder.read_checkpoint(path)
    weights = load_file(path / "model" / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    lines = losses(tmp_path / "run")
    assert [line["kind"] for line in lines[-3:]] == ["dropped"] * 3
    assert path.name == f"step-{lines[-4]['step']:09d}"


def test_a_run_that_diverged_leaves_its_curves(recipe, tmp_path):
    pytest.importorskip("matplotlib")
    asked = recipe("optimizer.peak_lr=1e30", "run.max_bad_steps=2", "log.curves=true")
    with pytest.raises(DivergedError):
        run_training(asked, tmp_path / "run")
    assert (tmp_path / "run" / "curves.png").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_told_with_the_name_of_the_log(tmp_path):
    lines = StepLines(tmp_path / "metrics.jsonl", last_step=0)
    lines.close()
    full = pytest.raises(OSError, match="No space left")
    with open("/dev/full", "ab", buffering=0) as lines.file, full as caught:
        lines.write(step=1)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json"])
def test_a_damaged_log_is_told_and_left_as_it_is(recipe, tmp_path, name):
    run_training(recipe(), tmp_path / "run", stop_after=2)
    damaged = b"{{\n" + (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(damaged)
    with pytest.raises(CheckpointError, match=rf"{name}.* is (damaged|not valid JSON)"):
        run_training(recipe(), tmp_path / "run")
    assert (tmp_path / "run" / name).read_bytes() == damaged


def test_a_request_starts_the_decay_and_a_resumed_run_starts_it_there_too(recipe, tmp_path):
    run = tmp_path / "run"
    run_training(recipe(), run, stop_after=3)
    (run / "decay").touch()
    events = run_training(recipe(), run, stop_after=5)
    assert [event.reason for event in events if isinstance(event, DecayBegan)] == ["request"]
    first = losses(run)
    for _, path in list_checkpoints(run)[1:]:
        run_folder.remove_folder(path)
    events = run_training(recipe(), run)
    assert losses(run)[: len(first)] == first
    # 12 steps were planned, of which the decay takes half: 3 + 6.
    assert isinstance(events[-1], Finished)
    assert events[-1].step == 9
    assert losses(run)[-3]["lr"] == pytest.approx(1e-3)


def test_another_recipe_on_a_run_is_refused_and_fresh_replaces_it(recipe, tmp_path):
    run_training(recipe(), tmp_path / "run", stop_after=2)
    hotter = recipe("optimizer.peak_lr=2e-2", "run.seed=3", "checkpoint.keep_last=5")
    with pytest.raises(UsageError, match=r"optimizer\.peak_lr, run\.seed changed"):
        run_training(hotter, tmp_path / "run")
    assert run_training(hotter, tmp_path / "run", fresh=True)[0].step == 0


def test_a_finished_run_goes_on_when_it_is_made_longer_before_its_decay(recipe, tmp_path):
    flat = recipe("schedule.decay=none", "run.total_tokens=512")
    assert run_training(flat, tmp_path / "run")[-1].step == 4
    longer = replace(flat, run=replace(flat.run, total_tokens=1024))
    assert run_training(longer, tmp_path / "run")[-1].step == 8
    done = run_training(longer, tmp_path / "run")
    assert [type(event).__name__ for event in done] == ["Started", "Finished"]


def test_the_length_cannot_change_once_the_decay_has_begun(recipe, tmp_path):
    run_training(recipe(), tmp_path / "run", stop_after=8)
    with pytest.raises(UsageError, match=r"run\.total_tokens can no longer change"):
        run_training(recipe("run.total_tokens=3000"), tmp_path / "run")


def test_changed_data_are_refused(recipe, packed, tmp_path):
    asked = recipe()
    run_training(asked, tmp_path / "run", stop_after=2)
    other = write_packed(tmp_path / "other", rows=25)
    with pytest.raises(UsageError, match="the dataset has changed"):
        run_training(reading(asked, other), tmp_path / "run")
    moved = packed.rename(tmp_path / "moved")
    assert run_training(reading(asked, moved), tmp_path / "run")[0].step == 2


def test_a_renamed_checkpoint_is_refused(recipe, tmp_path):
    run_training(recipe(), tmp_path / "run", stop_after=8)
    newest = newest_checkpoint(tmp_path / "run")
    newest.rename(run_folder.checkpoint_path(tmp_path / "run", 9))
    with pytest.raises(CheckpointError, match="holds step 8: it was renamed"):
        run_training(recipe(), tmp_path / "run")


def test_a_tampered_checkpoint_is_refused(recipe, tmp_path):
    run_training(recipe(), tmp_path / "run", stop_after=2)
    file = newest_checkpoint(tmp_path / "run") / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors was changed"):
        run_training(recipe(), tmp_path / "run")


def test_training_starts_from_given_weights(recipe, tmp_path):
    run_training(recipe(), tmp_path / "base")
    asked = recipe(f"model.ckpt={tmp_path / 'base'}")
    bare = replace(asked, model=type(asked.model)(ckpt=asked.model.ckpt))
    run_training(bare, tmp_path / "run")
    first, fresh = (first_line(tmp_path / name, "step")["loss"] for name in ("run", "base"))
    assert first < 0.9 * fresh
    with pytest.raises(UsageError, match=r"model\.layers is 3, but .* has 2"):
        prepare(recipe(f"model.ckpt={tmp_path / 'base'}", "model.layers=3"))
    write_rows(tmp_path / "other", 4, tokenizer="another")
    with pytest.raises(UsageError, match="have different tokenizers"):
        prepare(reading(asked, tmp_path / "other"))


def test_without_tokenizer_and_validation_a_run_says_what_it_lacks(recipe, packed, tmp_path):
    (packed / "tokenizer.json").unlink()
    alone = reading(recipe("run.total_tokens=512"), packed / "train")
    told = [event.sentence for event in run_training(alone, tmp_path / "run") if remarked(event)]
    assert len(told) == 2
    assert "no tokenizer.json" in told[0]
    assert "no validation part" in told[1]


def test_few_rows_and_few_held_out_tokens_are_told(recipe):
    asked = recipe("batch.rows=25", "validation.least_tokens=257")
    assert prepare(asked).remarks == (
        "there are only 24 rows, and a step takes 25 (batch.rows): some twice",
        "the bound is measured on 256 held-out tokens only, fewer than 257 "
        "(validation.least_tokens): small differences in it mean little",
    )
    assert prepare(recipe("batch.rows=24", "validation.least_tokens=256")).remarks == ()
    half = prepare(recipe("validation.rows=4", "validation.least_tokens=129")).remarks
    assert "on 128 held-out tokens" in half[0]


def test_a_resume_elsewhere_says_that_the_last_digits_may_differ(recipe, tmp_path):
    run_training(recipe(), tmp_path / "run", stop_after=2)
    threads = torch.get_num_threads()
    try:
        events = run_training(recipe(f"run.threads={threads + 1}"), tmp_path / "run")
    finally:
        torch.set_num_threads(threads)
    told = [event.sentence for event in events if remarked(event)]
    assert len(told) == 1
    assert told[0].startswith(f"threads was {threads} when the run was saved")


def test_folders_that_are_no_run_are_left_alone(recipe, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for fresh in (False, True):
        with pytest.raises(UsageError, match="not the folder of a run, but holds model"):
            run_training(recipe(), tmp_path / "mine", fresh=fresh)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["model"]


def test_metrics_hold_one_line_a_step_and_finished_models_load(recipe, tmp_path):
    from illada_core.model.weights import load_model

    events = run_training(recipe("run.peak_tflops=0.001"), tmp_path / "run")
    steps = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["tokens"] for line in steps] == list(range(128, 1537, 128))
    assert all(line["mfu"] > 0 and line["tokens_per_s"] > 0 for line in steps)
    assert [event.loss for event in events if isinstance(event, StepDone)] == [
        line["loss"] for line in steps
    ]
    model = load_model(tmp_path / "run" / "model")
    assert model.config.vocab_size == 128
    assert model.config.mask_id == 5
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["starts"][0]["torch"] == torch.__version__
