"""Transformer and loss as one module: the same sums either way, and phantoms that add nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from illada_core.data.batches import Batch
from illada_core.diffusion.corruption import Corruption, corrupt, phantom
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model

MASK = 5
RULE = Corruption(mask_id=MASK, seed=3)
CONFIG = ModelConfig(
    vocab_size=24, width=16, layers=2, heads=2, kv_heads=1, head_size=8, ffn_size=24, max_length=20
)


def rows(places, length=20):
    """Return rows of random ids, a row's ids following from its number."""
    ids = [np.random.default_rng(place).integers(6, 24, length) for place in places]
    ends_R = length * (1 + np.arange(len(ids)))
    places_R = np.array(places)
    return Batch(
        ids_T=np.concatenate(ids).astype(np.uint32),
        row_ends_R=ends_R,
        segment_ends_D=ends_R,
        places_R=places_R,
        epochs_R=np.zeros_like(places_R),
        rows_R=places_R,
    )


def denoiser(dtype=torch.float32, tied=True):
    return Denoiser(new_model(replace(CONFIG, tied=tied), seed=0, compute_dtype=dtype))


def gradients(module, micro_batches, **asked):
    """Return the summed gradients of some micro-batches."""
    for noisy in micro_batches:
        module(noisy, **asked).nats.backward()
    return [parameter.grad for parameter in module.parameters()]


@pytest.mark.parametrize("tied", [True, False])
def test_asked_by_token_the_sums_and_gradients_are_the_same(tied):
    noisy = corrupt(rows([0, 1, 2]), RULE, 3)
    fused, by_token = denoiser(tied=tied)(noisy), denoiser(tied=tied)(noisy, by_token=True)
    assert not fused.nll_M.requires_grad
    assert by_token.nll_M.requires_grad
    torch.testing.assert_close(by_token, fused, rtol=1e-6, atol=1e-6)
    pairs = zip(
        gradients(denoiser(tied=tied), [noisy]),
        gradients(denoiser(tied=tied), [noisy], by_token=True),
        strict=True,
    )
    for expected, found in pairs:
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_a_phantom_adds_nothing_bit_for_bit_and_reaches_every_parameter(dtype, tied):
    noisy, nobody = corrupt(rows([0, 1]), RULE, 2), phantom(RULE)
    assert (nobody.tokens, nobody.loss_count) == (0, 0)
    alone = gradients(denoiser(dtype, tied), [nobody])
    assert all(found is not None and not found.any() for found in alone)
    plain = gradients(denoiser(dtype, tied), [noisy])
    for order in ([noisy, nobody], [nobody, noisy]):
        for expected, found in zip(plain, gradients(denoiser(dtype, tied), order), strict=True):
            assert torch.equal(expected, found)


def test_every_gradient_flows_through_the_modules_own_outputs():
    """Wrappers hook the backward pass to the tensors that they find in what a module returns."""
    found = torch.utils._pytree.tree_leaves(denoiser()(corrupt(rows([0]), RULE, 1)))
    assert [each.requires_grad for each in found] == [True, False]
