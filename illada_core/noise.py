"""Counter-based random numbers: pure functions of their keys, the same bits on every device.

Philox-4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3"). There is
no generator state to save or to lose: order, splits, masking ratios and masks are functions of
(seed, stream, epoch, row, position). Works alike on Python ints, numpy int64 arrays and torch
int64 tensors, because it needs only `* ^ & >> +` with wrap-around at 64 bits.
"""

from typing import Any, TypeAlias

Integers: TypeAlias = Any  # a Python int, a numpy int64 array or a torch int64 tensor

WORD = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85

# One stream a purpose, so that no two uses of randomness ever share a counter.
STREAM_ROW_ORDER = 1
STREAM_SPLIT = 2
STREAM_MASK_RATIO = 3
STREAM_MASK = 4
STREAM_INITIAL_WEIGHTS = 5
STREAM_DOCUMENT_ORDER = 6
STREAM_SAMPLER = 7
STREAM_SCORING = 8
STREAM_REMASKING = 9
STREAM_STRATUM = 10
STREAM_TURN = 11
STREAM_MIXTURE = 12
STREAM_LATER_KEYS = 13
STREAM_SHOTS = 14


def philox(counter: tuple[Integers, ...], key: tuple[Integers, Integers]) -> tuple[Integers, ...]:
    """Map a counter of four 32-bit words and a key of two to four random 32-bit words.

    Each word is an integer (or an int64 array) in [0, 2**32); arrays broadcast.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # An int64 product wraps, but its bit pattern is that of the unsigned one.
        product_0, product_1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        high_0, low_0 = (product_0 >> 32) & WORD, product_0 & WORD
        high_1, low_1 = (product_1 >> 32) & WORD, product_1 & WORD
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + WEYL_0) & WORD, (k1 + WEYL_1) & WORD
    return c0, c1, c2, c3


def random_words(
    seed: int, stream: int, epoch: Integers, row: Integers, position: Integers
) -> Integers:
    """Return one random 32-bit word (int64, in [0, 2**32)) for each (epoch, row, position).

    The seed is 64 bits; stream < 2**8 and epoch < 2**24 share a word; row is below 2**56,
    position below 2**32. The last three broadcast against each other.
    """
    key = (seed & WORD, (seed >> 32) & WORD)
    row_low, row_high = row & WORD, (row >> 32) & WORD
    return philox((position, row_low, row_high, epoch << 8 | stream), key)[0]


def unit_interval(words: Integers) -> Integers:
    """Map 32-bit words to the middles of 2**32 equal cells of (0, 1), in float64."""
    return (words + 0.5) * 2.0**-32
