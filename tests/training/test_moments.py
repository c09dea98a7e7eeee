"""A new run that takes AdamW's moments along goes on as AdamW would have."""

import pytest
import torch
from safetensors.torch import load_file

from illada_core.data.batches import Share
from illada_core.diffusion.corruption import Corruption
from illada_core.diffusion.denoiser import Denoiser
from illada_core.errors import UsageError
from illada_core.model.finding import newest_checkpoint
from illada_core.model.weights import load_model
from illada_core.training.setup import prepare
from illada_core.training.source import row_source
from tests.training.test_loop import run_training

STEPS = 3
FLAT = ("schedule.decay=none", "schedule.warmup_tokens=0", "run.total_tokens=384")


def weights_of(model_folder):
    return {name: each.detach() for name, each in load_model(model_folder).named_parameters()}


def test_moments_that_are_kept_go_on_as_in_a_plain_loop(recipe, tmp_path):
    run_training(recipe(), tmp_path / "donor", stop_after=6)
    donor = newest_checkpoint(tmp_path / "donor")
    base = f"model.ckpt={tmp_path / 'donor'}"
    kept, without = recipe(*FLAT, base, "optimizer.keep_moments=true"), recipe(*FLAT, base)
    for name, asked in (("kept", kept), ("without", without)):
        run_training(asked, tmp_path / name)
    found, other = (
        weights_of(newest_checkpoint(tmp_path / name) / "model") for name in ("kept", "without")
    )
    by_hand = continued(donor, kept)
    for name, weight in by_hand.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=2e-6)
        assert (other[name] - weight).abs().max() > 1e-3, "fresh moments make other steps"


def continued(checkpoint, recipe):
    """Return the weights after some more steps of torch's AdamW, as a plain loop makes them."""
    setup = prepare(recipe)
    model = load_model(checkpoint / "model")
    denoiser, keys = Denoiser(model), recipe.optimizer
    moments = load_file(checkpoint / "optimizer.safetensors")
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": keys.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, keys.peak_lr, (keys.beta1, keys.beta2), keys.epsilon)
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(6.0),
            "exp_avg": moments[f"mean.{name}"],
            "exp_avg_sq": moments[f"mean_square.{name}"],
        }
    rule = Corruption(mask_id=5, seed=0)
    batches = row_source(setup.train, rule, Share(4, 4))(0)
    for _, (noisy,) in zip(range(STEPS), batches, strict=False):
        (denoiser(noisy).nats / noisy.loss_count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), keys.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    batches.close()
    return {name: each.detach() for name, each in model.named_parameters()}


def test_moments_come_from_a_run_or_a_checkpoint(recipe, tmp_path):
    with pytest.raises(UsageError, match=r"keep_moments needs model\.ckpt"):
        recipe("optimizer.keep_moments=true")
    run_training(recipe(), tmp_path / "donor")
    model = tmp_path / "donor" / "model"
    bare = recipe(*FLAT, f"model.ckpt={model}", "optimizer.keep_moments=true")
    with pytest.raises(UsageError, match="has no moments to keep") as caught:
        run_training(bare, tmp_path / "run")
    assert "--ckpt runs/NAME" in caught.value.hint
    newest = newest_checkpoint(tmp_path / "donor")
    named = recipe(*FLAT, f"model.ckpt={newest}", "optimizer.keep_moments=true")
    run_training(named, tmp_path / "run", stop_after=1)
