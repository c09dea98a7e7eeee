"""The likelihood bound of LLaDA by Monte Carlo: which tokens to hide, and what the draws say.

The bound without replacement is the mean over mask counts k = 1..L, and over all sets of k hidden
tokens, of L/k times the sum of their log-probabilities; 2^L - 1 forwards give it exactly. Draws
spread k evenly (stratified counts) and are functions of (seed, key, sample, position) alone, so
sequences with one key meet the same masks, whatever else is scored and in whatever order.

Shapes: L tokens of the target, N draws.
"""

from dataclasses import dataclass
from math import comb

import numpy as np

from illada_core.noise import STREAM_SCORING, random_words, unit_interval

# Room for the draws of one key inside the noise's 56-bit row number.
DRAW_BITS = 24
# Beyond it 2^L would not be compared but only overflow tables.
EXACT_LENGTH_LIMIT = 20


@dataclass(frozen=True)
class Draws:
    """Hidden sets of one target, and the weight of each in the estimate of the bound.

    `exact` says that they are all the sets there are; else they are a stratified sample, in order
    of the stratum.
    """

    hidden_NL: np.ndarray  # bool
    weight_N: np.ndarray  # float64: multiplies the sum of log-probabilities
    exact: bool


def ratios(samples: int, seed: int, key: int) -> np.ndarray:
    """Return the first draws of mask ratios in (0, 1): one random offset, then ever finer halves.

    Each ratio is uniform over seeds, and any first 2^k of them lie 2^-k apart.
    """
    offset = unit_interval(random_words(seed, STREAM_SCORING, 1, key, 0))
    return (offset + radical_inverse(np.arange(samples))) % 1.0


def radical_inverse(numbers: np.ndarray) -> np.ndarray:
    """Mirror the binary digits of whole numbers below 2^24 at the point: 1, 2, 3 to .5, .25, .75"""
    result = np.zeros(len(numbers))
    for bit in range(DRAW_BITS):
        result += ((numbers >> bit) & 1) * 0.5 ** (bit + 1)
    return result


def draw(length: int, samples: int, seed: int, key: int) -> Draws:
    """Return hidden sets for a target of `length` tokens: all of them if `samples` is enough."""
    if length <= EXACT_LENGTH_LIMIT and 2**length - 1 <= samples:
        return enumerate_all(length)
    return sample(length, samples, seed, key)


def sample(length: int, samples: int, seed: int, key: int) -> Draws:
    """Draw hidden sets with stratified counts; a larger sample holds the sets of a smaller one."""
    ratio_N = ratios(samples, seed, key)
    order_N = np.argsort(ratio_N, kind="stable")
    count_N = np.minimum((ratio_N[order_N] * length).astype(np.int64) + 1, length)
    row_N1 = (key << DRAW_BITS | order_N)[:, None]
    words_NL = random_words(seed, STREAM_SCORING, 0, row_N1, np.arange(length)[None, :])
    rank_NL = words_NL.argsort(axis=1, kind="stable").argsort(axis=1)
    return Draws(rank_NL < count_N[:, None], length / count_N / samples, exact=False)


def enumerate_all(length: int) -> Draws:
    """Return every set of hidden tokens with the weight that makes the sum the exact bound."""
    sets_N = np.arange(1, 2**length)
    hidden_NL = (sets_N[:, None] >> np.arange(length)) & 1 == 1
    weights = np.array([0.0] + [1 / (k * comb(length, k)) for k in range(1, length + 1)])
    return Draws(hidden_NL, weights[hidden_NL.sum(axis=1)], exact=True)


@dataclass(frozen=True)
class Estimate:
    """A bound as a sum of terms, one a draw, in order of the stratum; no error if exact."""

    terms_N: np.ndarray
    exact: bool

    @property
    def total(self) -> float:
        return float(self.terms_N.sum())

    @property
    def error(self) -> float | None:
        return 0.0 if self.exact else standard_error(self.terms_N)

    def over(self, divisor: float) -> "Estimate":
        return Estimate(self.terms_N / divisor, self.exact)


def gap_error(one: Estimate, other: Estimate) -> float | None:
    """Return the standard error of the difference of two estimates from the same draws.

    They met the same masks, so it is that of their paired differences, mostly far below either's.
    """
    sampled = [estimate.terms_N for estimate in (one, other) if not estimate.exact]
    if not sampled:
        return 0.0
    return standard_error(sampled[0] - sampled[1] if len(sampled) == 2 else sampled[0])


def standard_error(terms_N: np.ndarray) -> float | None:
    """Return the standard error of a sum of stratified terms, given in order of their strata.

    From successive differences, the classical estimate for one draw a stratum: slightly too large
    where the terms trend, never blind to noise. None for a single draw.
    """
    if len(terms_N) < 2:
        return None
    variance = np.square(np.diff(terms_N)).sum() / (2 * (len(terms_N) - 1))
    return float(np.sqrt(variance * len(terms_N)))
