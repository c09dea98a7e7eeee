"""Annealed attention: later keys come into sight by a draw of the step, within segments."""

from dataclasses import replace

import pytest
import torch

from illada_core.diffusion.annealing import POSITIONS, seen_keys
from illada_core.diffusion.corruption import Corruption, corrupt, phantom
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.attention import Segments, packed_attention
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.noise import STREAM_LATER_KEYS, random_words
from illada_core.training.validation import validation_rule
from tests.diffusion.test_corruption import batch_of
from tests.diffusion.test_shift import CONFIG
from tests.model.test_attention import CPU, LAYOUTS, random_inputs

RULE = Corruption(mask_id=5, seed=11, anneal_rows=64)
SHARES = (0.0, 0.3, 1.0)


@pytest.mark.parametrize("share", SHARES)
def test_a_query_sees_what_stands_before_and_a_share_of_the_rest(share):
    expected = [
        [
            key <= query
            or random_words(7, STREAM_LATER_KEYS, 0, 3 * POSITIONS + query, key) < share * 2**32
            for key in range(20)
        ]
        for query in range(20)
    ]
    assert seen_keys(20, share, seed=7, step=3).tolist() == expected


def test_a_key_that_came_into_sight_is_drawn_anew_at_each_step_in_the_asked_share():
    draws = [seen_keys(100, 0.25, seed=0, step=step).triu(1) for step in range(8)]
    pairs = 100 * 99 / 2
    for drawn in draws:
        assert abs(drawn.sum() / pairs - 0.25) < 4 * (0.25 * 0.75 / pairs) ** 0.5
    alike = (draws[0] & draws[1]).sum() / pairs
    assert abs(alike - 0.0625) < 4 * (0.0625 * 0.9375 / pairs) ** 0.5


def test_the_share_follows_the_rows_of_the_run_whatever_the_micro_batches():
    whole = corrupt(batch_of(range(16, 32), rows=64), RULE, 16)  # the second of four steps
    longest = len(whole.seen_LL)
    assert torch.equal(whole.seen_LL, seen_keys(longest, 0.5, RULE.seed, step=1))
    for places in ([16], [31, 20]):
        part = corrupt(batch_of(places, rows=64), RULE, 16).seen_LL
        assert torch.equal(part, whole.seen_LL[: len(part), : len(part)])
    assert corrupt(batch_of(range(48, 64), rows=64), RULE, 16).seen_LL is None
    assert corrupt(batch_of([3]), replace(RULE, anneal_rows=0), 16).seen_LL is None
    assert phantom(RULE).seen_LL is None


def test_held_out_rows_are_measured_with_full_attention():
    assert validation_rule(RULE, has_turns=False).anneal_rows == 0


@pytest.mark.parametrize("backend", ["sdpa", "matmul", "varlen"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", SHARES)
def test_attention_equals_a_dense_mask_in_values_and_gradients(layout, share, backend):
    ends, seen_LL = LAYOUTS[layout], seen_keys(250, share, seed=1, step=0)
    segments = Segments.of(ends, CPU)
    seen_LL = seen_LL[: segments.longest, : segments.longest]
    inputs = random_inputs(ends, 2, torch.float32)
    found = packed_attention(*inputs, replace(segments, seen_LL=seen_LL), backend)
    q, k, v = (x.double().transpose(0, 1) for x in inputs)
    k, v = (x.repeat_interleave(2, dim=0) for x in (k, v))
    allowed_TT = torch.block_diag(*(seen_LL[: e - s, : e - s] for s, e in segments.spans))
    scores = (q @ k.transpose(1, 2) / 4).masked_fill(~allowed_TT.bool(), -torch.inf)
    expected = (scores.softmax(-1) @ v).transpose(0, 1)
    weight = torch.linspace(-1, 1, found.numel()).view(found.shape)
    ours = torch.autograd.grad((found * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for one, other in zip((found, *ours), (expected, *theirs), strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_where_nothing_later_is_seen_the_loss_is_that_of_the_causal_model(grad):
    donor = new_model(replace(CONFIG, attention="causal"), seed=1)
    adapted = new_model(CONFIG, seed=1)
    noisy = corrupt(batch_of([3, 7, 9]), replace(RULE, anneal_rows=0, shift=True), 3)
    longest = Segments.of(noisy.segment_ends, CPU).longest
    blind = replace(noisy, seen_LL=seen_keys(longest, 0.0, seed=0, step=0))
    with torch.set_grad_enabled(grad):
        expected, found = Denoiser(donor)(noisy), Denoiser(adapted)(blind)
        torch.testing.assert_close(found.nll_M, expected.nll_M, rtol=1e-5, atol=1e-5)
        assert abs(Denoiser(adapted)(noisy).nats - expected.nats) > 1


def test_a_changed_segment_leaves_the_others_bits_alone():
    model = new_model(ModelConfig(**vars(CONFIG)), seed=1)
    noisy = corrupt(batch_of([3, 7, 9]), replace(RULE, split_probability=0), 3)
    other_T = noisy.noisy_T.clone()
    other_T[7:40] = 6
    nll, changed = (
        Denoiser(model)(replace(noisy, noisy_T=ids_T)).nll_M.tolist()
        for ids_T in (noisy.noisy_T, other_T)
    )
    apart = [n for n, place in enumerate(noisy.hidden_M.tolist()) if not 7 <= place < 40]
    assert noisy.seen_LL is not None
    assert nll != changed
    assert [nll[n] for n in apart] == [changed[n] for n in apart]
