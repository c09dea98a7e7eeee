"""Fine-tuning in the loop: masks by turns, the bound over responses, and data that do not fit."""

from math import log

import pytest

from illada_core.errors import UsageError
from illada_core.training.events import Validated
from illada_core.training.setup import prepare
from tests.training.test_loop import first_line, losses, run_training
from tests.training.tiny import tiny_recipe, write_conversations, write_packed


@pytest.fixture
def chats(tmp_path):
    """Return the function that makes the tiny recipe on conversations, with changes."""
    packed = write_packed(tmp_path / "chats", write=write_conversations)
    return lambda *changes: tiny_recipe(packed, *changes)


def step_losses(run):
    return [line["loss"] for line in losses(run) if line["kind"] == "step"]


@pytest.mark.parametrize("normalize", ["tokens", "length"])
@pytest.mark.parametrize("mask", ["response", "turn"])
def test_resume_is_exact_and_micro_batches_do_not_matter(chats, tmp_path, mask, normalize):
    keys = (f"objective.mask={mask}", f"objective.normalize={normalize}", "run.total_tokens=1024")
    run_training(chats(*keys), tmp_path / "whole")
    run_training(chats(*keys), tmp_path / "parts", stop_after=3)
    run_training(chats(*keys), tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    run_training(chats(*keys, "batch.micro_rows=3"), tmp_path / "other")
    assert step_losses(tmp_path / "other") == pytest.approx(
        step_losses(tmp_path / "whole"), rel=1e-4
    )


def test_the_bound_is_that_of_the_responses_whatever_is_trained_on(chats, tmp_path):
    found = []
    for mask in ("all", "response"):
        asked = chats(
            f"objective.mask={mask}", "optimizer.peak_lr=0", "schedule.final_lr=0", "run.epochs=1",
            "run.total_tokens=0", "schedule.warmup_tokens=0",
        )  # fmt: skip
        run_training(asked, tmp_path / mask)
        found.append(first_line(tmp_path / mask, "validation"))
    for line in found:
        assert (line["mask"], line["held_out_tokens"]) == ("response", 8 * 2 * 8)
    assert found[0]["loss"] == found[1]["loss"]


def test_responses_are_learnt(chats, tmp_path):
    asked = chats("objective.mask=response", "run.total_tokens=16384", "batch.rows=8")
    events = run_training(asked, tmp_path / "run")
    bound = next(event.loss for event in events if isinstance(event, Validated))
    by_frequencies = 7 / 8 * log(20)
    assert bound < 0.75 * by_frequencies


def test_masks_by_turns_need_conversations(recipe):
    with pytest.raises(UsageError, match=r'objective\.mask = "response" needs conv') as caught:
        prepare(recipe("objective.mask=response"))
    assert "--chat" in caught.value.hint


def test_adapters_need_their_package(chats, monkeypatch):
    monkeypatch.setattr("illada_core.training.setup.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"lora\.rank needs the package peft") as caught:
        prepare(chats("lora.rank=4", "model.ckpt=base"))
    assert "illada[lora]" in caught.value.hint
