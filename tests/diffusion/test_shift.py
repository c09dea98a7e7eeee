"""Under the shift the row before a hidden token speaks of it; a segment's first is not hidden."""

import numpy as np
import pytest
import torch

from illada_core.diffusion.corruption import Corruption, corrupt
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from tests.diffusion.test_corruption import batch_of

MASK = 5
CONFIG = ModelConfig(
    vocab_size=80,
    width=24,
    layers=2,
    heads=3,
    kv_heads=1,
    head_size=8,
    ffn_size=32,
    max_length=64,
    family="qwen2",
    qkv_bias=True,
    initializer_range=0.4,
    shift=True,
)


@pytest.mark.parametrize("masking", ["bernoulli", "fixed-count"])
def test_a_segments_first_token_is_never_hidden_and_not_counted(masking):
    rule = Corruption(mask_id=MASK, seed=3, shift=True, masking=masking)
    hidden = np.zeros(120, dtype=int)
    for epoch in range(60):
        noisy = corrupt(batch_of([50 * epoch + place for place in (3, 7, 9)]), rule, 3)
        ends = np.array(noisy.segment_ends)
        firsts = {0, *ends[:-1].tolist()}
        assert not firsts & set(noisy.hidden_M.tolist())
        assert noisy.loss_count == 120 - len(ends)
        hidden[noisy.hidden_M] += 1
    assert sorted(np.flatnonzero(hidden == 0)) == [0, 7, 40, 47, 80, 87]


def test_the_loss_is_that_of_the_rows_before():
    """Compared with a plain loop over segments, each by itself."""
    model = new_model(CONFIG, seed=1)
    rule = Corruption(mask_id=MASK, seed=5, shift=True)
    noisy = corrupt(batch_of([3, 7, 9]), rule, 3)
    found = Denoiser(model)(noisy)
    expected, start, hidden = 0.0, 0, noisy.hidden_M.tolist()
    for end in noisy.segment_ends:
        alone = Segments.of((end - start,), torch.device("cpu"))
        logits_TV = model.head(model(noisy.noisy_T[start:end], alone))
        for place, target, weight in zip(hidden, noisy.targets_M, noisy.weight_M, strict=True):
            if start <= place < end:
                nll = -logits_TV[place - 1 - start].log_softmax(-1)[target]
                expected += float((nll * weight).detach())
        start = end
    assert len(hidden) > 5
    assert found.nats.item() == pytest.approx(expected, rel=1e-4)
    own = Denoiser(new_model(ModelConfig(**{**vars(CONFIG), "shift": False}), seed=1))(noisy)
    assert abs(own.nats.item() - expected) > 1
