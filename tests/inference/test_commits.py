"""Step quotas, commit rules and the end-of-thinking boost, against their definitions."""

import itertools

import numpy as np
import pytest
import torch

from illada_core.inference.candidates import Candidates
from illada_core.inference.commits import step_quotas, taken, thinking_boost
from illada_core.inference.decisions import Decision
from illada_core.inference.rules import ModelIds, Rules
from illada_core.inference.settings import Settings

MASK = 99


def candidates(probability, confidence=None, entropy=None):
    numbers = [np.arange(len(probability)), probability]
    numbers += [probability if confidence is None else confidence]
    numbers += [np.zeros(len(probability)) if entropy is None else entropy]
    return Candidates(torch.tensor(np.array(numbers, dtype=np.float64)))


def picks(candidates, quota, settings):
    """Which candidates of one prompt are taken, the surest first."""
    is_open = torch.ones(1, candidates.numbers.shape[1], dtype=torch.bool)
    alone = Candidates(candidates.numbers[:, None])
    found = taken(alone, is_open, torch.tensor([quota]), settings)[0].numpy()
    return Decision(np.zeros(len(found)), candidates.confidence.numpy(), found).order


def test_quotas_spread_the_masks_and_early_steps_take_the_remainder():
    assert step_quotas(32, 5) == [7, 7, 6, 6, 6]
    assert step_quotas(18, None) == [1] * 18
    assert step_quotas(3, 10) == [1, 1, 1]
    assert step_quotas(0, 4) == []
    for masks, steps in itertools.product(range(1, 40), range(1, 40)):
        assert sum(step_quotas(masks, steps)) == masks
        assert min(step_quotas(masks, steps)) >= 1


@pytest.mark.parametrize("rule", [{}, {"threshold": 0.6}, {"factor": 0.0}, {"entropy_bound": 0.0}])
def test_ties_go_to_the_leftmost_position_and_every_rule_commits_the_quota(rule):
    tied = candidates([0.5, 0.5, 0.5, 0.5], entropy=[2.0, 2.0, 2.0, 2.0])
    assert picks(tied, 2, Settings(**rule)).tolist() == [0, 1]


def test_threshold_commits_all_that_reach_it():
    sure = candidates([0.95, 0.2, 0.9, 0.89])
    assert picks(sure, 1, Settings(threshold=0.9)).tolist() == [0, 2]
    assert picks(sure, 1, Settings(threshold=0.99)).tolist() == [0]


def test_threshold_counts_probability_whatever_orders_the_commits():
    by_margin = candidates([0.95, 0.2, 0.9], confidence=[0.1, 0.3, 0.2])
    assert picks(by_margin, 1, Settings(threshold=0.9)).tolist() == [1, 2, 0]


def test_factor_commits_the_largest_count_that_meets_its_inequality():
    drawn = np.random.default_rng(0)
    for _ in range(200):
        probability = 1 - drawn.random(8) ** 3
        factor = drawn.uniform(0.1, 2.0)
        falling = sorted(probability, reverse=True)
        expected = max(
            [n for n in range(1, 9) if (n + 1) * (1 - falling[n - 1]) < factor], default=1
        )
        got = picks(candidates(probability), 1, Settings(factor=factor))
        assert sorted(got.tolist()) == sorted(np.argsort(-probability, kind="stable")[:expected])


def test_entropy_bound_commits_the_longest_prefix_within_it():
    drawn = np.random.default_rng(1)
    for _ in range(200):
        entropy, confidence = drawn.exponential(0.1, 8), drawn.random(8)
        gamma = drawn.uniform(0.0, 0.5)
        order = np.argsort(-confidence, kind="stable")
        fits = [
            n for n in range(1, 9) if entropy[order[:n]].sum() - entropy[order[:n]].max() <= gamma
        ]
        got = picks(candidates(np.ones(8), confidence, entropy), 1, Settings(entropy_bound=gamma))
        assert got.tolist() == order[: max(fits)].tolist()


def boost(written, end_ids, budget=10, power=1.0):
    settings = Settings(end_thinking_boost=100.0, end_thinking_power=power)
    rules = Rules(ids=ModelIds(MASK), settings=settings, end_thinking_ids=end_ids)
    return thinking_boost(np.array(written), budget, rules)


def test_thinking_boost_grows_with_the_budget_used_and_is_full_at_the_last_position():
    assert boost([1, 2, MASK, MASK], (7,)) == (7, pytest.approx(30.0))
    assert boost([1, 2, MASK, MASK], (7,), power=3.0) == (7, pytest.approx(2.7))
    assert boost([1] * 9 + [MASK], (7,)) == (7, pytest.approx(100.0))
    assert boost([1] * 19 + [MASK], (7,)) == (7, pytest.approx(100.0))


def test_thinking_boost_continues_the_longest_begun_end_of_thinking():
    assert boost([1, MASK], (7, 8, 9))[0] == 7
    assert boost([7, MASK], (7, 8, 9))[0] == 8
    assert boost([7, 8, MASK], (7, 8, 9))[0] == 9
    assert boost([7, 7, MASK], (7, 7, 9))[0] == 9
    assert boost([8, MASK], (7, 8, 9))[0] == 7


def test_thinking_boost_is_off_once_thinking_has_ended():
    assert boost([1, 7, 8, MASK], (7, 8)) is None
    assert boost([1, MASK, 7, 8], (7, 8)) is None
    assert boost([7, MASK, 8, MASK], (7, 8)) is not None
