"""Annealed attention: a model that wrote from left to right comes to see what follows step by step.

A query sees all keys up to its own, and each later one with a probability that grows with the run
(DiffuLLaMA, arXiv 2410.17891). One draw serves all segments of a step, by positions within them.

Shapes: L tokens of the longest segment.
"""

import numpy as np
import torch
from torch import Tensor

from illada_core.noise import STREAM_LATER_KEYS, random_words

WORDS = 2**32  # how many values a random word has
POSITIONS = 2**24  # more than a segment has


def seen_keys(longest: int, share: float, seed: int, step: int) -> Tensor:
    """Return seen_LL (bool): whether the query of a row sees the key of a column.

    The draw is a function of seed, step and the two positions: a shorter segment has its corner.
    """
    position_L = np.arange(longest)
    row_L1 = step * POSITIONS + position_L[:, None]
    words_LL = random_words(seed, STREAM_LATER_KEYS, 0, row_L1, position_L)
    return torch.from_numpy((words_LL < round(share * WORDS)) | (position_L <= position_L[:, None]))
