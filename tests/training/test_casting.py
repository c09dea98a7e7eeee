"""Weights cast once an update: the losses of casts at each use, bit for bit, and no old copy."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.initial import new_model
from illada_core.training import session
from illada_core.training.casting import cast_once
from illada_core.training.layers import compile_layers, recompute_layers
from illada_core.training.lines import read_metrics
from illada_core.training.optim import gradient_norm, new_optimizer, update
from illada_core.training.recipe.keys import OptimizerKeys
from tests.model.test_transformer import TINY
from tests.training.peak import half_hidden
from tests.training.test_loop import run_training
from tests.training.tiny import tiny_recipe, write_packed

SOUND = torch.tensor(True)


CONFIG = replace(TINY, layers=1)


def fresh(once, wrap=None):
    model = new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16)
    if wrap:
        wrap(model)
    denoiser = Denoiser(model)
    optimizer = new_optimizer(denoiser, OptimizerKeys(peak_lr=1e-2))
    if once:
        cast_once(model, optimizer)
    return denoiser, optimizer


def losses_of(denoiser, optimizer, steps=3, sound=SOUND):
    """Return the losses of steps of two micro-batches each, and of what is seen after them."""
    losses = []
    for _ in range(steps):
        for tokens in (20, 31):
            loss = denoiser(half_hidden(tokens)).nats / 51
            loss.backward()
            losses.append(loss.item())
        update(optimizer, gradient_norm(denoiser), 1.0, sound, in_shards=False)
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            losses.append(denoiser(half_hidden(9)).nats.item())
    return losses


@pytest.mark.parametrize(
    "wrap",
    [
        None,
        recompute_layers,
        lambda model: recompute_layers(model, selective=True),
        lambda model: compile_layers(model, backend="eager"),
    ],
    ids=["plain", "recomputed", "selective", "compiled"],
)
def test_losses_and_weights_are_those_of_casts_at_each_use(wrap):
    once, each_use = fresh(True, wrap), fresh(False, wrap)
    assert losses_of(*once) == losses_of(*each_use)
    for one, other in zip(once[0].parameters(), each_use[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_that_somebody_else_writes_are_copied_anew():
    (denoiser, _), (expected, _) = fresh(True), fresh(False)
    for each in (denoiser, expected):
        each(half_hidden(9))
        with torch.no_grad():
            for parameter in each.parameters():
                parameter.mul_(0.5)
    assert torch.equal(denoiser(half_hidden(9)).nats, expected(half_hidden(9)).nats)


class Casts(TorchDispatchMode):
    """Counts casts of the matrices of layers."""

    def __init__(self, denoiser):
        super().__init__()
        matrices = [each for each in denoiser.transformer.layers.parameters() if each.ndim == 2]
        self.places, self.count = {each.data_ptr() for each in matrices}, 0

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        if operator is torch.ops.aten._to_copy.default:
            self.count += arguments[0].data_ptr() in self.places
        return operator(*arguments, **(named or {}))


@pytest.mark.parametrize(("once", "casts"), [(True, 0), (False, 2 * 2 * 7)])
def test_no_weight_of_a_layer_is_cast_at_its_use(once, casts):
    """Else each of two micro-batches casts all seven of a layer, and again for its gradient."""
    denoiser, _ = fresh(once, recompute_layers)
    denoiser(half_hidden(9))
    with Casts(denoiser) as counted:
        for tokens in (20, 31):
            denoiser(half_hidden(tokens)).nats.backward()
    assert counted.count == casts


def test_a_run_has_the_losses_of_casts_at_each_use(tmp_path, monkeypatch):
    """Killed and resumed runs, validation and exports read the same weights."""
    packed = write_packed(tmp_path / "packed", rows=64)
    recipe = tiny_recipe(packed, "run.compute_dtype=bfloat16")
    used = []
    real = session.cast_once
    monkeypatch.setattr(session, "cast_once", lambda *each: used.append(each) or real(*each))
    run_training(recipe, tmp_path / "once")
    monkeypatch.setattr(session, "cast_once", lambda model, optimizer: None)
    run_training(recipe, tmp_path / "each")
    once, each = (
        [(line["kind"], line["step"], line["loss"]) for line in read_metrics(run) if "loss" in line]
        for run in (tmp_path / "once", tmp_path / "each")
    )
    assert once == each
    assert len(used) == 1
