"""Masks of fine-tuning: what can be hidden, what the loss is divided by, and exact expectations."""

from dataclasses import replace
from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest
import torch

from illada_core.data.batches import Batch
from illada_core.diffusion.corruption import WORDS, Corruption, corrupt, hide_tokens, lay_out
from illada_core.diffusion.loss import masked_cross_entropy

EOS, MASK = 2, 5
MASKINGS, RATIOS = ("bernoulli", "fixed-count"), ("uniform", "stratified")
KINDS, NORMS = ("response", "turn"), ("tokens", "length")
RULE = Corruption(mask_id=MASK, seed=3, mask="response")
# A row of two conversations end to end: prompt, response, prompt, response; prompt, response.
TURNS = [0] * 5 + [1] * 4 + [0] * 3 + [2] * 6 + [0] * 7 + [1] * 5
SEGMENTS = (18, 30)
ROW = len(TURNS)


def batch_of(places, turns=TURNS, segments=SEGMENTS, rows=50):
    """Return rows at `places` of a run without a shuffle; each response ends with eos."""
    epochs, numbers = np.divmod(np.array(places), rows)
    length = len(turns)
    starts = np.arange(len(places)) * length
    ids = np.arange(6, 6 + length) + numbers[:, None] % 20
    ends = [n for n in range(length) if turns[n] and (n + 1 == length or turns[n + 1] != turns[n])]
    ids[:, ends] = EOS
    return Batch(
        ids_T=ids.ravel().astype(np.uint32),
        row_ends_R=starts + length,
        segment_ends_D=(starts[:, None] + np.array(segments)).ravel(),
        places_R=np.array(places),
        epochs_R=epochs,
        rows_R=numbers,
        turns_T=np.tile(np.array(turns, np.uint16), len(places)),
    )


def rules(**changes):
    return [
        replace(RULE, mask=mask, masking=masking, **changes)
        for mask in KINDS
        for masking in MASKINGS
    ]


def loss_count(batch, rule):
    return corrupt(batch, rule, 1).loss_count


@pytest.mark.parametrize("rule", rules())
def test_no_prompt_token_is_ever_hidden_and_the_ends_of_responses_can_be(rule):
    batch = batch_of(range(400))
    noisy = corrupt(batch, rule, 400)
    hidden_M = noisy.hidden_M.numpy()
    assert (batch.turns_T[hidden_M] > 0).all()
    assert EOS in noisy.targets_M
    prompts_T = torch.from_numpy(batch.ids_T[batch.turns_T == 0].astype(np.int64))
    assert torch.equal(noisy.noisy_T[batch.turns_T == 0], prompts_T)
    assert set(batch.turns_T[hidden_M]) == {1, 2}


@pytest.mark.parametrize("rule", rules(normalize="length"))
@pytest.mark.parametrize("ratio", RATIOS)
def test_noise_and_counts_do_not_depend_on_micro_batches_or_ranks(rule, ratio):
    rule = replace(rule, ratio=ratio)
    places = range(96, 112)  # one step of 16 rows, over the end of an epoch of 50
    whole = corrupt(batch_of(places), rule, 16)
    noisy = whole.noisy_T.reshape(16, ROW).tolist()
    weights = torch.zeros(16 * ROW).index_copy(0, whole.hidden_M, whole.weight_M).reshape(16, ROW)
    for parts in ([[place] for place in places], [range(96 + rank, 112, 3) for rank in range(3)]):
        for micro in parts:
            part = corrupt(batch_of(micro), rule, 16)
            slots = [place - 96 for place in micro]
            assert part.noisy_T.reshape(-1, ROW).tolist() == [noisy[slot] for slot in slots]
            expected = weights[slots].flatten()
            assert part.weight_M.tolist() == expected[expected > 0].tolist()
        for normalize in NORMS:
            counted = replace(rule, normalize=normalize)
            counts = [loss_count(batch_of(micro), counted) for micro in parts]
            assert sum(counts) == loss_count(batch_of(places), counted)


def test_the_noise_stays_what_it_was():
    """Noise that changed would break the resumption of every run, and comparisons over time."""
    hidden = [corrupt(batch_of([3, 60]), rule, 7).hidden_M for rule in rules()]
    assert [(len(each), int(each.sum())) for each in hidden] == [
        (17, 361),
        (21, 553),
        (9, 221),
        (9, 210),
    ]


def slow_turns(turns, start, end):
    """Return (first, stop) of each unbroken stretch of one response between two places."""
    found = []
    for place in range(start, end):
        if not turns[place]:
            continue
        if found and found[-1][1] == place and turns[place - 1] == turns[place]:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return found


@pytest.mark.parametrize("split", [0.0, 1.0])
def test_a_segment_asks_for_one_turn_and_ends_behind_it(split):
    rule = replace(RULE, mask="turn", split_probability=split)
    batch = batch_of(range(300), segments=(ROW,))
    uncut = lay_out(batch, replace(rule, mask="all"))
    layout = lay_out(batch, rule)
    asked = []
    for start, end in zip((0, *uncut.ends_D[:-1]), uncut.ends_D, strict=True):
        turns = slow_turns(batch.turns_T.tolist(), start, end)
        hideable = start + np.flatnonzero(layout.hideable_T[start:end])
        if not turns:
            assert not len(hideable)
            continue
        chosen = (hideable[0], hideable[-1] + 1)
        assert chosen in turns
        assert len(hideable) == chosen[1] - chosen[0]
        assert chosen[1] in layout.ends_D
        assert not [each for each in layout.ends_D if start < each < chosen[1]]
        asked.append((turns.index(chosen), len(turns)))
    drawn = np.bincount([turn for turn, of in asked if of == 3], minlength=3)
    expected = drawn.sum() / 3
    assert ((drawn - expected) ** 2).sum() / expected < 14  # chi-square, 2


def test_a_response_without_a_frame_before_the_next_one_is_a_turn_of_its_own():
    batch = batch_of(range(60), turns=[0, 1, 1, 2, 2], segments=(5,))
    rule = replace(RULE, mask="turn", split_probability=0.0)
    kept = {tuple(row) for row in lay_out(batch, rule).hideable_T.reshape(-1, 5).tolist()}
    assert kept == {(False, True, True, False, False), (False, False, False, True, True)}


@pytest.mark.parametrize("rule", rules(split_probability=0.0))
def test_counts_are_those_of_what_can_be_hidden(rule):
    batch = batch_of(range(8))
    per_row = {"response": (15, 2), "turn": (None, 2)}[rule.mask]
    tokens, segments = (loss_count(batch, replace(rule, normalize=norm)) for norm in NORMS)
    assert segments == 8 * per_row[1]
    assert tokens == lay_out(batch, rule).hideable_T.sum()
    assert per_row[0] is None or tokens == 8 * per_row[0]


def test_everything_is_counted_where_everything_can_be_hidden():
    rule = replace(RULE, mask="all", split_probability=0.0)
    batch = batch_of(range(8))
    assert loss_count(batch, rule) == 8 * ROW
    assert loss_count(batch, replace(rule, normalize="length")) == 8 * len(SEGMENTS)


@pytest.mark.parametrize("rule", [*rules(), replace(RULE, mask="all", normalize="length")])
def test_a_normalised_segment_weighs_one_whatever_its_length(rule):
    """A predictor that is wrong by one nat everywhere loses one nat on average."""
    batch = batch_of(range(3000), rows=3000)
    for normalize in NORMS:
        counted = replace(rule, normalize=normalize)
        loss = corrupt(batch, counted, 1).weight_M.double().sum() / loss_count(batch, counted)
        tolerance = 1e-5 if rule.masking == "fixed-count" else 0.05
        assert loss.item() == pytest.approx(1.0, rel=tolerance)


@pytest.mark.parametrize("rule", rules())
def test_rows_without_a_response_hide_nothing_and_count_nothing(rule):
    batch = batch_of(range(5), turns=[0] * 9, segments=(4, 9))
    assert len(corrupt(batch, rule, 5).hidden_M) == 0
    assert [loss_count(batch, replace(rule, normalize=norm)) for norm in NORMS] == [0, 0]


# Exact expectations. The toy model is a table: for each set of hidden places of the response,
# logits of each; the prompt is seen by all of them.

PROMPT, ANSWER, V = [8, 9], [6, 2, 7], 16
MASK_SETS = [hidden for size in (1, 2, 3) for hidden in combinations(range(3), size)]


def toy_batch(turns):
    """Return one row: two prompt tokens, then a response of three, and what `turns` adds."""
    ids = [*PROMPT, *ANSWER, *range(9, 9 + len(turns) - 5)]
    return Batch(
        ids_T=np.array(ids, np.uint32),
        row_ends_R=np.array([len(ids)]),
        segment_ends_D=np.array([len(ids)]),
        places_R=np.array([0]),
        epochs_R=np.array([0]),
        rows_R=np.array([0]),
        turns_T=np.array(turns, np.uint16),
    )


def random_table(seed):
    draw = torch.Generator().manual_seed(seed)
    return {hidden: 2 * torch.randn(len(hidden), V, generator=draw) for hidden in MASK_SETS}


def exact(table):
    """The integral of Eq. (1) over the response: h of n hidden weigh (h - 1)! (n - h)! / n!."""
    return sum(
        factorial(len(hidden) - 1)
        * factorial(3 - len(hidden))
        / factorial(3)
        * torch.nn.functional.cross_entropy(
            table[hidden], torch.tensor(ANSWER)[list(hidden)], reduction="sum"
        )
        for hidden in MASK_SETS
    ).item()


def loss_of(table, words, draw, rule, batch):
    """Return the loss of the row by the real layout, corruption, loss and divisor."""
    layout = lay_out(batch, rule)
    draws = np.full(len(layout.ends_D), draw)
    noisy = hide_tokens(batch, layout, np.array(words), draws, rule)
    assert noisy.noisy_T[:2].tolist() == PROMPT
    places = tuple((noisy.hidden_M - 2).tolist())
    if not places:
        return 0.0
    nats, _ = masked_cross_entropy(table[places], torch.eye(V), noisy.targets_M, noisy.weight_M)
    return nats.item() / noisy.loss_count


def expected(table, rule, batch):
    """Integrate over ratios or counts, and enumerate the masks of the response's three tokens."""
    others = len(batch.ids_T) - 5
    if rule.masking == "fixed-count":
        draws = [(2 * k + 1) * WORDS // 6 for k in range(3)]
        losses = [
            loss_of(table, [0, 0, *words, *[0] * others], draw, rule, batch)
            for draw in draws
            for words in permutations(range(1, 4))
        ]
        return sum(losses) / len(losses)
    points, shares = np.polynomial.legendre.leggauss(8)
    total = 0.0
    for p, share in zip((points + 1) / 2, shares / 2, strict=True):
        for hidden in MASK_SETS:
            words = [0 if place in hidden else WORDS - 1 for place in range(3)]
            chance = p ** len(hidden) * (1 - p) ** (3 - len(hidden))
            words = [0, 0, *words, *[0] * others]
            total += share * chance * loss_of(table, words, int(p * WORDS), rule, batch)
    return total


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("normalize", NORMS)
@pytest.mark.parametrize("mask", KINDS)
def test_the_loss_given_the_prompt_is_unbiased_by_exact_enumeration(masking, normalize, mask):
    rule = replace(RULE, masking=masking, normalize=normalize, mask=mask, split_probability=0.0)
    rule = replace(rule, epsilon=0.0)
    table = random_table(0)
    found = expected(table, rule, toy_batch([0, 0, 1, 1, 1]))
    assert found == pytest.approx(exact(table) / 3, rel=1e-5)


@pytest.mark.parametrize("masking", MASKINGS)
def test_a_turn_is_unbiased_given_what_stands_before_it_and_never_sees_later_turns(masking):
    turns = [0, 0, 1, 1, 1, 0, 2, 2]
    rules_by_turn = {}
    for seed in range(20):
        rule = replace(RULE, masking=masking, mask="turn", seed=seed, split_probability=0.0)
        layout = lay_out(toy_batch(turns), rule)
        rules_by_turn[layout.hideable_T.tolist().index(True)] = replace(rule, epsilon=0.0)
    assert rules_by_turn.keys() == {2, 6}
    first = rules_by_turn[2]
    assert lay_out(toy_batch(turns), first).ends_D.tolist() == [5, 8]
    table = random_table(1)
    found = expected(table, first, toy_batch(turns))
    assert found == pytest.approx(exact(table) / 3, rel=1e-5)
