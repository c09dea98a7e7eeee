"""Corruption by Eq. (1): which tokens of a batch are hidden, and what each of them weighs.

Everything is a pure function of the seed and of where a row stands in the run: it does not depend
on micro-batches, ranks or interruptions. A row is cut in two with some probability (section 2.1),
each segment draws its own masking ratio, and every token, eos too, can be hidden. The work is
integer arithmetic on the host: the same bits everywhere, and no device is waited for to learn how
many tokens are hidden. The loss of the hidden tokens is loss.py.

Shapes: T packed tokens, R rows, D segments (after the cuts), M hidden tokens.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illada_core.data.batches import Batch
from illada_core.noise import (
    STREAM_MASK,
    STREAM_MASK_RATIO,
    STREAM_SPLIT,
    STREAM_STRATUM,
    random_words,
    unit_interval,
)

Integers: TypeAlias = NDArray[np.int64]
Claims: TypeAlias = NDArray[np.bool_]
Ratios: TypeAlias = NDArray[np.float64]

WORDS = 2**32  # how many values a random word has


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How tokens are hidden.

    "bernoulli" hides each token by itself with its segment's ratio p = (1 - epsilon) t + epsilon,
    t uniform on (0, 1); "fixed-count" hides exactly k of L, k uniform on 1..L. Both weigh a hidden
    token with the inverse of the ratio, 1/p or L/k. The ratios of a step are drawn apart
    ("uniform") or spread evenly over its rows on all ranks ("stratified").
    """

    mask_id: int
    seed: int
    masking: Literal["bernoulli", "fixed-count"] = "bernoulli"
    ratio: Literal["uniform", "stratified"] = "uniform"
    epsilon: float = 1e-3
    split_probability: float = 0.3


@dataclass(frozen=True, eq=False)
class Corrupted:
    """What the model sees (ids and segments), and what it is asked: the hidden tokens.

    `ratio_M` is the masking ratio of each hidden token's segment, `weight_M` its inverse.
    """

    noisy_T: Tensor  # int64
    segment_ends: tuple[int, ...]
    hidden_M: Tensor  # int64, positions in T, rising
    targets_M: Tensor  # int64
    weight_M: Tensor  # float32
    ratio_M: Tensor  # float32


def corrupt(
    batch: Batch, objective: Objective, rows_per_step: int, device: torch.device | str = "cpu"
) -> Corrupted:
    """Hide tokens of a batch and return it on `device`.

    `rows_per_step` counts the rows of all ranks; only stratified ratios depend on it.
    """
    ends_D = cut_rows(batch, objective)
    lengths_D = np.diff(ends_D, prepend=0)
    draws_D = draw_ratios(batch, ends_D, objective, rows_per_step)
    hidden_T, ratio_D = hide(draw_masks(batch, objective.seed), lengths_D, draws_D, objective)
    ids_T = batch.ids_T.astype(np.int64)
    ratio_M = np.repeat(ratio_D, lengths_D)[hidden_T]
    return Corrupted(
        noisy_T=on_device(np.where(hidden_T, objective.mask_id, ids_T), device),
        segment_ends=tuple(ends_D.tolist()),
        hidden_M=on_device(np.flatnonzero(hidden_T), device),
        targets_M=on_device(ids_T[hidden_T], device),
        weight_M=on_device((1 / ratio_M).astype(np.float32), device),
        ratio_M=on_device(ratio_M.astype(np.float32), device),
    )


def cut_rows(batch: Batch, objective: Objective) -> Integers:
    """Return the ends of segments after some rows were cut in two, at any place alike.

    A cut that falls on a boundary changes nothing, so no segment is ever empty.
    """
    keys = (objective.seed, STREAM_SPLIT, batch.epochs_R, batch.rows_R)
    coins_R, words_R = random_words(*keys, 0), random_words(*keys, 1)
    lengths_R = np.diff(batch.row_ends_R, prepend=0)
    is_cut_R = (coins_R < round(objective.split_probability * WORDS)) & (lengths_R > 1)
    cuts_R = batch.row_ends_R - lengths_R + 1 + (words_R * (lengths_R - 1) >> 32)
    return np.union1d(batch.segment_ends_D, cuts_R[is_cut_R])


def draw_ratios(
    batch: Batch, ends_D: Integers, objective: Objective, rows_per_step: int
) -> Integers:
    """Return one 32-bit word a segment, uniform, from which its masking ratio follows.

    Stratified, the words of the j-th segments of a step's rows stand 2**32 / rows_per_step apart,
    from a common random start on.
    """
    row_D = np.searchsorted(batch.row_ends_R, ends_D)
    number_D = np.arange(len(ends_D)) - np.searchsorted(row_D, row_D)  # within its row
    if objective.ratio == "uniform":
        epoch_D = batch.epochs_R[row_D]
        stored_D = batch.rows_R[row_D]
        return random_words(objective.seed, STREAM_MASK_RATIO, epoch_D, stored_D, number_D)
    step_D, slot_D = np.divmod(batch.places_R[row_D], rows_per_step)
    starts_D = random_words(objective.seed, STREAM_STRATUM, 0, step_D, number_D)
    return (starts_D + slot_D * WORDS // rows_per_step) % WORDS


def draw_masks(batch: Batch, seed: int) -> Integers:
    """Return one 32-bit word a token, keyed by its row and its position in it."""
    lengths_R = np.diff(batch.row_ends_R, prepend=0)
    starts_R = batch.row_ends_R - lengths_R
    epoch_T, row_T, start_T = (
        np.repeat(values_R, lengths_R) for values_R in (batch.epochs_R, batch.rows_R, starts_R)
    )
    return random_words(seed, STREAM_MASK, epoch_T, row_T, np.arange(len(start_T)) - start_T)


def hide(
    words_T: Integers, lengths_D: Integers, draws_D: Integers, objective: Objective
) -> tuple[Claims, Ratios]:
    """Return which tokens are hidden and each segment's masking ratio, exact as a fraction."""
    if objective.masking == "bernoulli":
        share_D = (1 - objective.epsilon) * unit_interval(draws_D) + objective.epsilon
        limit_D = np.rint(share_D * WORDS).astype(np.int64)
        return words_T < np.repeat(limit_D, lengths_D), limit_D / WORDS
    count_D = 1 + (draws_D * lengths_D >> 32)
    segment_T = np.repeat(np.arange(len(lengths_D)), lengths_D)
    order_T = np.lexsort((words_T, segment_T))  # equal words keep the order of their positions
    start_D = np.cumsum(lengths_D) - lengths_D
    hidden_T = np.empty(len(words_T), bool)
    hidden_T[order_T] = np.arange(len(words_T)) < np.repeat(start_D + count_D, lengths_D)
    return hidden_T, count_D / lengths_D


def on_device(array: NDArray[np.generic], device: torch.device | str) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)
