"""AdamW clips and drops as torch's own functions would, without a look at the gradients."""

import pytest
import torch
from torch import nn

from illada_core.training.optim import gradient_norm, new_optimizer, update
from illada_core.training.recipe.keys import OptimizerKeys

KEYS = OptimizerKeys(peak_lr=1e-2)
SOUND, BAD = torch.tensor(True), torch.tensor(False)


def model_with_gradients(seed):
    """Return a model and a function that gives it the gradients of a step."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))

    def differentiate(step):
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)

    return model, differentiate


@pytest.mark.parametrize("largest_norm", [0.0, 0.5, 1e3])
@pytest.mark.parametrize("in_shards", [False, True])
def test_gradients_are_clipped_as_torch_clips_them(largest_norm, in_shards):
    """Of a whole model bit for bit."""
    tolerance = {"rtol": 2e-6, "atol": 1e-7} if in_shards else {"rtol": 0, "atol": 0}
    (ours, differentiate), (plain, differentiate_plain) = (
        model_with_gradients(0) for _ in range(2)
    )
    optimizer, other = new_optimizer(ours, KEYS), new_optimizer(plain, KEYS)
    for step in range(3):
        differentiate(step)
        differentiate_plain(step)
        norm = gradient_norm(ours)
        assert norm == nn.utils.get_total_norm([each.grad for each in plain.parameters()])
        if largest_norm:
            nn.utils.clip_grads_with_norm_(plain.parameters(), largest_norm, norm)
        other.step()
        update(optimizer, norm, largest_norm, SOUND, in_shards)
        for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, two, **tolerance)


@pytest.mark.parametrize("in_shards", [False, True])
def test_a_dropped_step_leaves_weights_moments_and_count_as_they_were(in_shards):
    model, differentiate = model_with_gradients(0)
    optimizer = new_optimizer(model, KEYS)
    kept = []
    for is_sound in (SOUND, BAD, SOUND):
        differentiate(len(kept))
        update(optimizer, gradient_norm(model), 1.0, is_sound, in_shards)
        state = [
            tensor.clone()
            for parameter in model.parameters()
            for tensor in (parameter.detach(), *optimizer.state[parameter].values())
        ]
        kept.append(state)
    assert all(torch.equal(*pair) for pair in zip(kept[0], kept[1], strict=True))
    assert not any(torch.equal(*pair) for pair in zip(kept[1], kept[2], strict=True))
