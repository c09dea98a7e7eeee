"""What a hidden token weighs by CART: the more, the nearer the tokens are that can be seen.

Context-adaptive token-level noise rescheduling (Dream 7B, arXiv 2508.15487). It takes the place of
Eq. (1)'s inverse ratio in training alone: what it sums to bounds no likelihood.

Shapes: T packed tokens, D segments.
"""

import numpy as np
from numpy.typing import NDArray


def nearness(
    visible_T: NDArray[np.bool_], ends_D: NDArray[np.int64], p: float
) -> NDArray[np.float64]:
    """Return half the sum of p (1 - p)^(d - 1) over the visible tokens of a token's segment.

    d is the distance of each, at least 1: from 0 where nothing is seen to almost 1 in a long
    segment of which all else is.
    """
    lengths_D = np.diff(ends_D, prepend=0)
    before_T = np.arange(len(visible_T)) - np.repeat(ends_D - lengths_D, lengths_D)
    after_T = np.repeat(lengths_D, lengths_D) - 1 - before_T
    left_T = decayed_sum(visible_T, before_T, 1 - p)
    right_T = decayed_sum(visible_T[::-1], after_T[::-1], 1 - p)[::-1]
    return p / 2 * (left_T + right_T)


def decayed_sum(
    visible_T: NDArray[np.bool_], before_T: NDArray[np.int64], decay: float
) -> NDArray[np.float64]:
    """Return for each token the sum of decay^(d - 1) over what is visible before it.

    `before_T` counts the tokens before it in its segment. Each round doubles how far is looked, so
    a segment's sums are the same bits whatever is packed beside it.
    """
    sums_T, reach = np.append(0.0, visible_T[:-1]) * (before_T > 0), 1
    while reach < len(sums_T):
        sums_T[reach:] += decay * np.where(before_T[reach:] >= reach, sums_T[:-reach], 0.0)
        decay, reach = decay * decay, 2 * reach
    return sums_T
