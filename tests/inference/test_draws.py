"""Draws of tokens: keyed noise, where it can win, and the nucleus, against slow formulas."""

import numpy as np
import pytest
import torch

from illada_core.inference import draws as module
from illada_core.inference.draws import gumbel_noise, gumbel_noise_at
from illada_core.inference.settings import Settings
from illada_core.noise import STREAM_SAMPLER, philox

VOCABULARY = 11


def random_logits(rows, seed=0, scale=2.0):
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * scale


def slow_gumbel(key, position, step, seed, vocabulary):
    quarter = -(-vocabulary // 4)
    noise = []
    for token in range(vocabulary):
        counter = (token % quarter, position, key, step << 8 | STREAM_SAMPLER)
        word = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[token // quarter]
        noise.append(-np.log(-np.log((word + 0.5) / 2**32)))
    return noise


def test_noise_is_a_function_of_seed_prompt_step_position_and_token():
    seed = (7 << 32) + 1
    keys = torch.tensor(
        [[0, 3, 3], [9, 9, 2**32 - 1], [0, 0, 70_000], [seed & 0xFFFFFFFF] * 3, [seed >> 32] * 3]
    )
    expected = [
        slow_gumbel(*row, seed, 10) for row in [(9, 0, 0), (9, 3, 0), (2**32 - 1, 3, 70_000)]
    ]
    np.testing.assert_allclose(gumbel_noise(keys, 10), expected, rtol=1e-12)


def test_noise_at_some_tokens_is_the_noise_of_all():
    keys = torch.tensor([[0, 3, 3], [9, 9, 7], [0, 2, 70_000], [5, 5, 6], [0, 0, 9]])
    tokens = torch.tensor([[4, 0, 9], [9, 8, 1], [2, 2, 5]])
    everywhere = gumbel_noise(keys, 10)
    assert gumbel_noise_at(keys, tokens, 10).tolist() == everywhere.gather(1, tokens).tolist()


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 8.0])
@pytest.mark.parametrize("few", [1, 3, 256])
def test_noise_where_a_token_can_win_draws_what_noise_for_all_does(temperature, few, monkeypatch):
    monkeypatch.setattr(module, "FEW", few)
    generator = torch.Generator().manual_seed(few)
    rows, vocabulary = 64, 1000
    keys = torch.cat((torch.arange(rows)[None], torch.full((4, rows), few)))
    for scale in (1.0, 8.0, 30.0):
        logits = scale * torch.randn(rows, vocabulary, generator=generator)
        logits[3] = 0.0
        logits[5, 7:] = -torch.inf
        scores = logits.double().add(gumbel_noise(keys, vocabulary), alpha=temperature)
        assert torch.equal(module.draw_from_all(logits, keys, temperature), scores.argmax(-1))
        monkeypatch.setattr(module, "SPARSE", 1.0)  # the sparse way, however many can win
        assert torch.equal(module.draw_from_all(logits, keys, temperature), scores.argmax(-1))
        monkeypatch.setattr(module, "SPARSE", 0.0)
        assert torch.equal(module.draw_from_all(logits, keys, temperature), scores.argmax(-1))


def test_the_largest_noise_is_below_the_bound_by_which_tokens_are_left_out():
    largest = module.gumbel(torch.tensor([2**32 - 1]))
    assert 22.8 < largest.item() < module.MOST_NOISE


def test_equal_scores_go_to_the_leftmost_token(monkeypatch):
    monkeypatch.setattr(module, "gumbel_noise_at", lambda _, tokens, __: 0.0 * tokens.double())
    logits = torch.zeros(2, 600)
    logits[0, [400, 90]] = logits[1, [599, 300]] = 50.0
    assert module.draw_from_all(logits, torch.zeros(5, 2).long(), 0.1).tolist() == [90, 300]


@pytest.mark.parametrize("sizes", [(1, 3), (3, 7), (256,)])
def test_nucleus_is_the_smallest_set_that_reaches_top_p(sizes, monkeypatch):
    monkeypatch.setattr(module, "NUCLEUS_SIZES", sizes)
    logits = random_logits(50, scale=1.0)
    for top_p in (0.05, 0.5, 0.95, 0.999999):
        tokens, outside = module.nucleus(logits, Settings(top_p=top_p))
        for row in range(50):
            p = logits[row].softmax(-1).tolist()
            ranked = sorted(range(VOCABULARY), key=lambda token: -p[token])
            size = next(n for n in range(1, 99) if sum(p[t] for t in ranked[:n]) >= top_p - 1e-7)
            assert set(tokens[row][~outside[row]].tolist()) == set(ranked[:size])
