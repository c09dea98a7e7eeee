"""A diffusion model from an autoregressive one: the donor arrives whole, and learns from there."""

import json
import subprocess
import sys

import pytest
import torch

from illada_core.data.store.dataset import open_packed
from illada_core.errors import UsageError
from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.configfile import read_config
from illada_core.model.initial import new_model
from illada_core.model.weights import load_model, save_model
from illada_core.training.events import Validated
from illada_core.training.setup import prepare
from tests.conftest import REPO
from tests.training.test_loop import losses, run_training
from tests.training.tiny import tiny_recipe, write_packed

CONFIG = ModelConfig(
    vocab_size=48,
    width=24,
    layers=2,
    heads=3,
    kv_heads=1,
    head_size=8,
    ffn_size=32,
    max_length=32,
    rope_theta=1e4,
    tied=True,
    family="llama",
    attention="causal",
    shift=True,
    initializer_range=0.3,
)
SIZES = [f"model.{name}=0" for name in ("layers", "width", "heads", "kv_heads", "ffn_size")]


@pytest.fixture
def donor(tmp_path):
    packed = write_packed(tmp_path / "packed")
    folder = tmp_path / "donor"
    save_model(new_model(CONFIG, seed=4), folder, "llama", packed)

    def recipe(*changes):
        ckpt = [f"model.ckpt={folder}", "model.max_length=0", *SIZES]
        return tiny_recipe(packed, *ckpt, "run.total_tokens=1024", *changes)

    return folder, recipe


ADAPT = ("model.adapt=true", "model.shift=true")


def test_a_causal_base_is_refused_unless_it_is_to_be_adapted(donor):
    _, recipe = donor
    with pytest.raises(UsageError, match="writes from left to right, and this training") as told:
        prepare(recipe())
    assert "recipe adapt" in told.value.hint


def test_the_donor_arrives(donor, tmp_path):
    """Untrained, read as causal and with nothing masked, the model gives the donor's logits."""
    folder, recipe = donor
    run_training(recipe(*ADAPT, "optimizer.peak_lr=0", "schedule.final_lr=0"), tmp_path / "run")
    ids_T = torch.arange(6, 36)
    alone = Segments.of((30,), torch.device("cpu"))
    with torch.inference_mode():
        before = load_model(folder)
        raw_TV = before.head(before(ids_T, alone))
        arrived = load_model(tmp_path / "run" / "model", attention="causal")
        rows_T = torch.arange(1, 30)
        found = arrived.logits_at(ids_T, (30,), rows_T)
    assert torch.equal(found, raw_TV[:-1])


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("how", [(), ("schedule.anneal_tokens=640",), ("objective.weights=cart",)])
def test_it_is_trained_resumed_and_exported_as_what_it_has_become(donor, tmp_path, shift, how):
    _, recipe = donor
    asked = ("model.adapt=true", f"model.shift={str(shift).lower()}", "optimizer.peak_lr=5e-3")
    asked += ("validation.every_steps=2", *how)
    events = run_training(recipe(*asked), tmp_path / "whole")
    run_training(recipe(*asked), tmp_path / "parts", stop_after=3)
    run_training(recipe(*asked), tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    config = read_config(tmp_path / "whole" / "model")
    assert (config.family, config.attention, config.shift) == ("llama", "full", shift)
    facts = json.loads((tmp_path / "whole" / "model" / "config.json").read_text())
    assert facts["model_type"] == ("illada-llama" if shift else "a2d-llama")
    assert "architectures" not in facts
    bounds = [event.loss for event in events if isinstance(event, Validated)]
    assert bounds[-1] < bounds[0]


def test_annealing_begins_with_what_the_donor_sees_and_changes_the_first_losses(donor, tmp_path):
    """At a rate of 0 all steps measure one model, under more and more of what follows."""
    _, recipe = donor
    still = (*ADAPT, "optimizer.peak_lr=0", "schedule.final_lr=0")
    run_training(recipe(*still), tmp_path / "full")
    run_training(recipe(*still, "schedule.anneal_tokens=640"), tmp_path / "annealed")
    full, annealed = (
        [line["loss"] for line in losses(tmp_path / run) if line["kind"] == "step"]
        for run in ("full", "annealed")
    )
    assert len(full) == 8
    assert full[4:] == annealed[4:]
    assert all(one != other for one, other in zip(full[:4], annealed[:4], strict=True))


def test_the_table_of_an_adaptation_has_its_bounds_and_the_donors_exact_figure(donor, tmp_path):
    """The donor's figure is that of a loop which predicts each token from those before it."""
    folder, recipe = donor
    packed = folder.parent / "packed"
    events = run_training(recipe(*ADAPT, "validation.every_steps=4"), tmp_path / "run")
    bounds = [event.loss for event in events if isinstance(event, Validated)]
    script = [sys.executable, REPO / "benchmarks" / "adapt_table.py"]
    command = [*script, packed, folder, f"run={tmp_path / 'run'}"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert [told[told.index(f"{tokens:,}") + 3] for tokens in (512, 1024)] == [
        f"{bound:.3f}" for bound in bounds
    ]
    model, nats, count = load_model(folder, dtype="bfloat16"), 0.0, 0
    held = open_packed(packed)[1]
    for number in range(held.rows):
        ids_T = torch.from_numpy(held.row(number).ids.astype("int64"))
        for place in range(1, len(ids_T)):
            before = Segments.of((place,), torch.device("cpu"))
            logits_TV = model.head(model(ids_T[:place], before)).float()
            nats -= logits_TV[-1].log_softmax(-1)[ids_T[place]].item()
            count += 1
    exact = float(told[told.index("exactly") + 1].rstrip(","))
    assert exact == pytest.approx(nats / count, abs=2e-3)
