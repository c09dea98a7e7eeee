"""CART weighs a hidden token by the visible ones near it, and bounds nothing."""

from dataclasses import replace

import numpy as np
import pytest

from illada_core.diffusion.corruption import Corruption, corrupt
from illada_core.diffusion.nearness import nearness
from illada_core.training.validation import validation_rule
from tests.diffusion.test_corruption import batch_of, described

ENDS_D = np.array([1, 9, 12, 80])
RULE = Corruption(mask_id=5, seed=11, weights="cart")


def by_pairs(visible, ends, p):
    """Return the weights by the definition, a sum over pairs of tokens."""
    weights, start = [], 0
    for end in ends:
        for here in range(start, end):
            others = [there for there in range(start, end) if there != here and visible[there]]
            weights.append(sum(p / 2 * (1 - p) ** (abs(here - there) - 1) for there in others))
        start = end
    return weights


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_weights_are_those_of_the_definition(p, share):
    visible_T = np.random.default_rng(0).random(80) < share
    found = nearness(visible_T, ENDS_D, p)
    np.testing.assert_allclose(found, by_pairs(visible_T, ENDS_D, p), rtol=1e-12, atol=1e-15)
    assert found.max() <= 1 + 1e-12


def test_one_neighbour_weighs_half_of_p_and_no_company_nothing():
    visible_T = np.zeros(80, bool)
    visible_T[40] = True
    found = nearness(visible_T, ENDS_D, 0.3)
    assert found[39] == found[41] == 0.15
    assert found[40] == 0
    assert not found[:12].any()


def test_a_segment_weighs_the_same_bits_whatever_is_packed_beside_it():
    visible_T = np.random.default_rng(1).random(80) < 0.5
    found = nearness(visible_T, ENDS_D, 0.3)
    alone = nearness(visible_T[12:], np.array([68]), 0.3)
    assert found[12:].tolist() == alone.tolist()


@pytest.mark.parametrize("normalize", ["tokens", "length"])
def test_the_same_tokens_are_hidden_and_weigh_by_what_is_seen(normalize):
    batch = batch_of([3, 7, 9])
    rule = replace(RULE, normalize=normalize)
    noisy, plain = (corrupt(batch, each, 3) for each in (rule, replace(rule, weights="ratio")))
    assert described(noisy)[:2] == described(plain)[:2]
    assert noisy.loss_count == plain.loss_count
    hidden = noisy.hidden_M.tolist()
    visible = [here not in hidden for here in range(120)]
    expected = np.array(by_pairs(visible, noisy.segment_ends, 0.3))[hidden]
    if normalize == "length":
        lengths_D = np.diff(noisy.segment_ends, prepend=0)
        expected /= np.repeat(lengths_D, lengths_D)[hidden]
    np.testing.assert_allclose(noisy.weight_M, expected, rtol=1e-6)


def test_what_is_measured_on_held_out_rows_stays_a_bound():
    assert validation_rule(RULE, has_turns=False).weights == "ratio"
