"""What holds between the arrays of an index."""

import numpy as np
import pytest

from illada_core.data.store.index import are_among


@pytest.mark.parametrize("seed", range(50))
def test_numbers_are_among_rising_ones_where_a_set_says_so(seed):
    draws = np.random.default_rng(seed)
    rising = np.unique(draws.integers(1, 40, draws.integers(0, 30)))
    for size in (0, 1, 5):
        some = np.sort(draws.integers(1, 42, size))
        inside = rising[draws.integers(0, len(rising), size)] if len(rising) else rising
        for asked in (some, np.sort(inside)):
            assert are_among(asked, rising) == set(asked.tolist()).issubset(rising.tolist())
