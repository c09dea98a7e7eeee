"""Corruption by Eq. (1): which tokens of a batch are hidden, and what each of them weighs.

Everything is a pure function of the seed and of where a row stands in the run: it does not depend
on micro-batches, ranks or interruptions. A row is cut in two with some probability (section 2.1),
each segment draws its own masking ratio, and every token, eos too, can be hidden. The work is
integer arithmetic on the host: the same bits everywhere, and no device is waited for to learn how
many tokens are hidden. What a model makes of it is denoiser.py.

Fine-tuning may keep prompts visible (LLaDA's rule), or ask for one response of many: then only
those tokens can be hidden, and ratios, counts and the loss's divisor are theirs alone.

Shapes: T packed tokens, R rows, D segments (after the cuts), N tokens that can be hidden, M hidden
tokens.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from illada_core.data.batches import Batch
from illada_core.data.store.turns import Turns
from illada_core.diffusion.annealing import seen_keys
from illada_core.diffusion.nearness import nearness
from illada_core.model.transfer import sent
from illada_core.noise import (
    STREAM_MASK,
    STREAM_MASK_RATIO,
    STREAM_SPLIT,
    STREAM_STRATUM,
    STREAM_TURN,
    random_words,
    unit_interval,
)

Integers: TypeAlias = NDArray[np.int64]
Claims: TypeAlias = NDArray[np.bool_]
Ratios: TypeAlias = NDArray[np.float64]

WORDS = 2**32  # how many values a random word has


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """The rule by which tokens are hidden.

    "bernoulli" hides each token by itself with its segment's ratio p = (1 - epsilon) t + epsilon,
    t uniform on (0, 1); "fixed-count" hides exactly k of L, k uniform on 1..L. Both weigh a hidden
    token with the inverse of the ratio, 1/p or L/k, unless `weights` are those of "cart": by the
    visible tokens near it, which bounds nothing. The ratios of a step are drawn apart ("uniform")
    or spread evenly over its rows on all ranks ("stratified").

    `mask` says which tokens can be hidden: "all", those of a "response", or those of one "turn"
    that each segment draws from its responses; the segment is cut behind it. `normalize` says what
    the loss is a mean over: the "tokens" that can be hidden, or the segments that have some, each
    weighed with the inverse of its "length" in such tokens.

    Under the `shift` the row before a token speaks of it, so a segment's first is never hidden.
    Over the first `anneal_rows` of a run the model comes to see what follows a token.
    """

    mask_id: int
    seed: int
    masking: Literal["bernoulli", "fixed-count"] = "bernoulli"
    ratio: Literal["uniform", "stratified"] = "uniform"
    epsilon: float = 1e-3
    weights: Literal["ratio", "cart"] = "ratio"
    cart_p: float = 0.3
    split_probability: float = 0.3
    mask: Literal["all", "response", "turn"] = "all"
    normalize: Literal["tokens", "length"] = "tokens"
    shift: bool = False
    anneal_rows: int = 0


@dataclass(frozen=True, eq=False)
class Layout:
    """The segments that a batch is cut into, and which of its tokens can be hidden."""

    ends_D: Integers
    hideable_T: Claims

    @property
    def lengths_D(self) -> Integers:
        """The number of tokens of each segment that can be hidden."""
        starts_D = self.ends_D - np.diff(self.ends_D, prepend=0)
        return np.add.reduceat(self.hideable_T.astype(np.int64), starts_D)


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A micro-batch as the model sees it (ids and segments), and what it is asked: hidden tokens.

    `ratio_M` is the masking ratio of each hidden token's segment, `weight_M` its inverse, or what
    CART makes of it, divided by the segment's length where the loss is normalised by it. `tokens`
    are those of its rows, `loss_count` what it adds to the count that the loss is divided by:
    tokens or segments.
    """

    noisy_T: Tensor  # int64
    segment_ends: tuple[int, ...]
    hidden_M: Tensor  # int64, positions in T, rising
    targets_M: Tensor  # int64
    weight_M: Tensor  # float32
    ratio_M: Tensor  # float32
    tokens: int
    loss_count: int
    seen_LL: Tensor | None = None  # bool, which keys a query sees by their positions; None: all

    def to(self, device: torch.device) -> "Corrupted":
        """Return it on a device, for which nobody waits."""
        return replace(
            self,
            noisy_T=sent(self.noisy_T, device),
            hidden_M=sent(self.hidden_M, device),
            targets_M=sent(self.targets_M, device),
            weight_M=sent(self.weight_M, device),
            ratio_M=sent(self.ratio_M, device),
            seen_LL=None if self.seen_LL is None else sent(self.seen_LL, device),
        )


def corrupt(batch: Batch, rule: Corruption, rows_per_step: int, origin: int = 0) -> Corrupted:
    """Hide tokens of a batch.

    `rows_per_step` counts the rows of all ranks, with step 0 at the place `origin`; stratified
    ratios and annealing depend on them.
    """
    layout = lay_out(batch, rule)
    draws_D = draw_ratios(batch, layout.ends_D, rule, rows_per_step, origin)
    words_T = draw_masks(batch, rule.seed)
    noisy = hide_tokens(batch, layout, words_T, draws_D, rule)
    return replace(noisy, seen_LL=anneal(batch, layout, rule, rows_per_step, origin))


def anneal(
    batch: Batch, layout: Layout, rule: Corruption, rows_per_step: int, origin: int
) -> Tensor | None:
    """Return which keys a query sees at the step of a batch; None once all are seen."""
    step = (int(batch.places_R[0]) - origin) // rows_per_step
    rows = origin + (step + 1) * rows_per_step
    if rows >= rule.anneal_rows:
        return None
    longest = int(np.diff(layout.ends_D, prepend=0).max())
    return seen_keys(longest, rows / rule.anneal_rows, rule.seed, step)


def hide_tokens(
    batch: Batch, layout: Layout, words_T: Integers, draws_D: Integers, rule: Corruption
) -> Corrupted:
    """Hide tokens by random words that were drawn for each token and each segment."""
    lengths_D = layout.lengths_D
    hidden_N, ratio_D = hide(words_T[layout.hideable_T], lengths_D, draws_D, rule)
    position_M = np.flatnonzero(layout.hideable_T)[hidden_N]
    ratio_M = np.repeat(ratio_D, lengths_D)[hidden_N]
    weight_M = 1 / ratio_M
    if rule.weights == "cart":
        visible_T = np.ones(len(batch.ids_T), bool)
        visible_T[position_M] = False
        weight_M = nearness(visible_T, layout.ends_D, rule.cart_p)[position_M]
    if rule.normalize == "length":
        weight_M /= np.repeat(lengths_D, lengths_D)[hidden_N]
    ids_T = batch.ids_T.astype(np.int64)
    targets_M = ids_T[position_M]
    ids_T[position_M] = rule.mask_id
    count = lengths_D.sum() if rule.normalize == "tokens" else (lengths_D > 0).sum()
    return Corrupted(
        noisy_T=torch.from_numpy(ids_T),
        segment_ends=tuple(layout.ends_D.tolist()),
        hidden_M=torch.from_numpy(position_M),
        targets_M=torch.from_numpy(targets_M),
        weight_M=torch.from_numpy(weight_M.astype(np.float32)),
        ratio_M=torch.from_numpy(ratio_M.astype(np.float32)),
        tokens=len(ids_T),
        loss_count=int(count),
    )


def phantom(rule: Corruption) -> Corrupted:
    """Return a micro-batch that adds exactly nothing: one token, of no row, that nobody asks for.

    It stands in where a rank has no rows left, so that all ranks run as many forwards.
    """
    none_M = torch.empty(0)
    return Corrupted(
        noisy_T=torch.tensor([rule.mask_id]),
        segment_ends=(1,),
        hidden_M=none_M.long(),
        targets_M=none_M.long(),
        weight_M=none_M,
        ratio_M=none_M,
        tokens=0,
        loss_count=0,
    )


def lay_out(batch: Batch, rule: Corruption) -> Layout:
    """Cut a batch into segments and find the tokens that can be hidden."""
    layout = lay_out_turns(batch, rule)
    if rule.shift:
        layout.hideable_T[layout.ends_D - np.diff(layout.ends_D, prepend=0)] = False
    return layout


def lay_out_turns(batch: Batch, rule: Corruption) -> Layout:
    """Cut a batch into segments and find the tokens whose turns can be hidden."""
    ends_D = cut_rows(batch, rule)
    if rule.mask == "all":
        return Layout(ends_D, np.ones(len(batch.ids_T), bool))
    assert batch.turns_T is not None, "checked when the data was opened"
    if rule.mask == "response":
        return Layout(ends_D, batch.turns_T > 0)
    return choose_turns(batch, batch.turns_T, ends_D, rule.seed)


def choose_turns(batch: Batch, turns_T: Turns, ends_D: Integers, seed: int) -> Layout:
    """Draw one turn of each segment, all alike, and cut the segment behind it.

    A turn is an unbroken stretch of one response: a row may hold several examples end to end. What
    is cut off becomes a segment of its own in which nothing can be hidden.
    """
    lengths_D = np.diff(ends_D, prepend=0)
    before_T = np.append(0, turns_T[:-1])
    before_T[ends_D[:-1]] = 0
    begins_T = (turns_T > 0) & (turns_T != before_T)
    turns_D = np.add.reduceat(begins_T.astype(np.int64), ends_D - lengths_D)
    row_D, number_D = number_segments(batch, ends_D)
    epoch_D, stored_D = batch.epochs_R[row_D], batch.rows_R[row_D]
    words_D = random_words(seed, STREAM_TURN, epoch_D, stored_D, number_D)
    chosen_D = np.cumsum(turns_D) - turns_D + (words_D * turns_D >> 32)
    turn_T = np.cumsum(begins_T) - 1
    hideable_T = (turns_T > 0) & (turn_T == np.repeat(chosen_D, lengths_D))
    last_T = hideable_T & ~np.append(hideable_T[1:], False)
    return Layout(np.union1d(ends_D, np.flatnonzero(last_T) + 1), hideable_T)


def cut_rows(batch: Batch, rule: Corruption) -> Integers:
    """Return the ends of segments after some rows were cut in two, at any place alike.

    A cut that falls on a boundary changes nothing, so no segment is ever empty.
    """
    keys = (rule.seed, STREAM_SPLIT, batch.epochs_R, batch.rows_R)
    coins_R, words_R = random_words(*keys, 0), random_words(*keys, 1)
    lengths_R = np.diff(batch.row_ends_R, prepend=0)
    is_cut_R = (coins_R < round(rule.split_probability * WORDS)) & (lengths_R > 1)
    cuts_R = batch.row_ends_R - lengths_R + 1 + (words_R * (lengths_R - 1) >> 32)
    return np.union1d(batch.segment_ends_D, cuts_R[is_cut_R])


def draw_ratios(
    batch: Batch, ends_D: Integers, rule: Corruption, rows_per_step: int, origin: int
) -> Integers:
    """Return one 32-bit word a segment, uniform, from which its masking ratio follows.

    Stratified, the words of the j-th segments of a step's rows stand 2**32 / rows_per_step apart,
    from a common random start on.
    """
    row_D, number_D = number_segments(batch, ends_D)
    if rule.ratio == "uniform":
        epoch_D = batch.epochs_R[row_D]
        stored_D = batch.rows_R[row_D]
        return random_words(rule.seed, STREAM_MASK_RATIO, epoch_D, stored_D, number_D)
    step_D, slot_D = np.divmod(batch.places_R[row_D] - origin, rows_per_step)
    starts_D = random_words(rule.seed, STREAM_STRATUM, 0, step_D, number_D)
    return (starts_D + slot_D * WORDS // rows_per_step) % WORDS


def number_segments(batch: Batch, ends_D: Integers) -> tuple[Integers, Integers]:
    """Return the row of each segment, and its number within that row."""
    row_D = np.searchsorted(batch.row_ends_R, ends_D)
    return row_D, np.arange(len(ends_D)) - np.searchsorted(row_D, row_D)


def draw_masks(batch: Batch, seed: int) -> Integers:
    """Return one 32-bit word a token, keyed by its row and its position in it."""
    lengths_R = np.diff(batch.row_ends_R, prepend=0)
    starts_R = batch.row_ends_R - lengths_R
    epoch_T, row_T, start_T = (
        np.repeat(values_R, lengths_R) for values_R in (batch.epochs_R, batch.rows_R, starts_R)
    )
    return random_words(seed, STREAM_MASK, epoch_T, row_T, np.arange(len(start_T)) - start_T)


def hide(
    words_N: Integers, lengths_D: Integers, draws_D: Integers, rule: Corruption
) -> tuple[Claims, Ratios]:
    """Return which tokens are hidden and each segment's masking ratio, exact as a fraction.

    Words and lengths are those of the tokens that can be hidden; a segment may have none.
    """
    if rule.masking == "bernoulli":
        share_D = (1 - rule.epsilon) * unit_interval(draws_D) + rule.epsilon
        limit_D = np.rint(share_D * WORDS).astype(np.int64)
        return words_N < np.repeat(limit_D, lengths_D), limit_D / WORDS
    count_D = 1 + (draws_D * lengths_D >> 32)
    segment_N = np.repeat(np.arange(len(lengths_D)), lengths_D)
    order_N = np.lexsort((words_N, segment_N))  # equal words keep the order of their positions
    start_D = np.cumsum(lengths_D) - lengths_D
    hidden_N = np.empty(len(words_N), bool)
    hidden_N[order_N] = np.arange(len(words_N)) < np.repeat(start_D + count_D, lengths_D)
    return hidden_N, count_D / np.maximum(lengths_D, 1)
