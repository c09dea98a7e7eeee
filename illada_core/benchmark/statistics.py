"""How sure a figure is: intervals of means, unbiased pass@k, and paired tests of two results.

An interval is about the items: what another draw of as many of them might have given. Where two
results have the same items, only a paired test says whether they differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np

from illada_core.evaluation.scoring import Z_95, wilson_interval

BOOTSTRAP_DRAWS = 10_000


@dataclass(frozen=True)
class Mean:
    """The mean of a metric over items, its standard error, and its 95 % interval.

    Where every value is 0 or 1 the interval is Wilson's, else the normal one.
    """

    value: float
    error: float | None
    interval: tuple[float, float]
    count: int


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of at least one value."""
    array = np.asarray(values, dtype=np.float64)
    count, value = len(array), float(array.mean())
    error = float(array.std(ddof=1)) / sqrt(count) if count > 1 else None
    if np.isin(array, (0.0, 1.0)).all():
        return Mean(value, error, wilson_interval(int(array.sum()), count), count)
    half = Z_95 * error if error is not None else 1.0
    return Mean(value, error, (max(0.0, value - half), min(1.0, value + half)), count)


def pass_at(k: int, passed: int, samples: int) -> float:
    """Return the chance that k of the samples hold one that passed (Chen et al. 2021, Eq. 1)."""
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {samples}")
    return 1.0 - comb(samples - passed, k) / comb(samples, k)


@dataclass(frozen=True)
class Paired:
    """Two results on the same items: the mean difference (one less other), and how sure it is.

    `interval` is the 95 % one of a bootstrap over items; `won` and `lost` count the items where
    one is above or below the other; `p_value` is McNemar's exact one, two-sided, which looks at
    those alone.
    """

    difference: float
    interval: tuple[float, float]
    won: int
    lost: int
    p_value: float
    count: int


def paired(one: Sequence[float], other: Sequence[float], seed: int = 0) -> Paired:
    """Compare two results item by item; both lists have at least one value and the same order."""
    gaps = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    won, lost = int((gaps > 0).sum()), int((gaps < 0).sum())
    return Paired(
        difference=float(gaps.mean()),
        interval=bootstrap_interval(gaps, seed),
        won=won,
        lost=lost,
        p_value=mcnemar(won, lost),
        count=len(gaps),
    )


def mcnemar(won: int, lost: int) -> float:
    """Return the two-sided p-value of a fair coin giving so uneven a split."""
    tosses, few = won + lost, min(won, lost)
    tail = sum(comb(tosses, heads) for heads in range(few + 1))
    return min(1.0, 2 * tail / 2**tosses)


def bootstrap_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean over items drawn with replacement.

    The draws are counts of each distinct value, so that 100,000 items cost what three values do.
    """
    distinct, counts = np.unique(values, return_counts=True)
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = generator.multinomial(len(values), counts / len(values), size=BOOTSTRAP_DRAWS)
    low, high = np.quantile(drawn @ distinct / len(values), (0.025, 0.975))
    return float(low), float(high)
