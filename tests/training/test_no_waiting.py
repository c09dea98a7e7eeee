"""A step asks its device for nothing that the host would have to wait for.

The device of the test has no numbers at all: whoever wants to know one fails.
"""

import pytest
import torch

from illada_core.data.batches import read_batch
from illada_core.data.store.dataset import open_packed
from illada_core.diffusion.corruption import Corruption, corrupt
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.transformer import Transformer
from illada_core.training.layers import recompute_layers
from illada_core.training.parallel import Ranks
from illada_core.training.step import likelihood_bound, train_step
from tests.model.test_transformer import TINY

NOWHERE = torch.device("meta")


@pytest.mark.parametrize("recompute", [None, False, True], ids=["kept", "full", "selective"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_waits_for_nothing(packed, dtype, recompute, monkeypatch):
    rule = Corruption(mask_id=5, seed=0)
    noisy = corrupt(read_batch(open_packed(packed)[0], range(4), seed=0), rule, 4)
    with NOWHERE:
        model = Transformer(TINY, dtype, "sdpa")
    if recompute is not None:
        recompute_layers(model, selective=recompute)
    optimizer = torch.optim.AdamW(model.parameters())
    monkeypatch.setattr(optimizer, "step", lambda: None)  # the fused kernel is one of no device
    ranks = Ranks(rank=0, world=1, device=NOWHERE)
    for _ in range(2):
        fetched = train_step(
            Denoiser(model), optimizer, [noisy, noisy], likelihood_bound, 96, 1.0, ranks
        )
    assert fetched.numbers.shape == (4,)
    with pytest.raises(NotImplementedError):  # so would it have, had a step wanted to know
        fetched.read().tolist()
