"""Intervals and tests against plain counting."""

from itertools import combinations, product
from math import sqrt

import numpy as np
import pytest

from illada_core.benchmark.statistics import mcnemar, mean_of, paired, pass_at


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 2), (4, 4, 2)])
def test_pass_at_k_is_the_share_of_draws_that_hold_a_pass(samples, passed, k):
    outcomes = [True] * passed + [False] * (samples - passed)
    draws = list(combinations(outcomes, k))
    assert pass_at(k, passed, samples) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="at least 3"):
        pass_at(3, 1, 2)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 1), (1, 3), (8, 0), (5, 5)])
def test_mcnemar_counts_splits_at_least_as_uneven(won, lost):
    tosses = won + lost
    uneven = [sum(each) for each in product((0, 1), repeat=tosses)]
    share = sum(abs(2 * heads - tosses) >= abs(won - lost) for heads in uneven) / 2**tosses
    assert mcnemar(won, lost) == pytest.approx(share)


def test_the_bootstrap_equals_one_that_draws_items():
    generator = np.random.default_rng(0)
    one, other = (generator.random(150) < share for share in (0.6, 0.5))
    found = paired(one.astype(float), other.astype(float))
    gaps = one.astype(float) - other.astype(float)
    plain = [gaps[generator.integers(0, 150, 150)].mean() for _ in range(4000)]
    assert found.difference == pytest.approx(gaps.mean())
    assert found.interval == pytest.approx(np.quantile(plain, (0.025, 0.975)), abs=0.012)
    assert (found.won, found.lost) == (int((gaps > 0).sum()), int((gaps < 0).sum()))


def test_a_mean_has_the_interval_of_its_kind():
    shares = mean_of([1.0] * 30 + [0.0] * 10)
    assert shares.value == 0.75
    assert shares.error == pytest.approx(sqrt(0.75 * 0.25 / 39))
    assert shares.interval == pytest.approx((0.5981, 0.8581), abs=1e-4)  # Wilson's, by hand
    graded = mean_of([0.5, 1.0, 0.25, 0.25])
    assert graded.interval[0] < 0.5 < graded.interval[1] <= 1.0
    assert mean_of([1.0]).error is None
