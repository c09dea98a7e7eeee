"""Eq. (1): what is hidden is a pure function of place and row, and the loss is unbiased."""

from dataclasses import replace
from itertools import combinations, permutations
from math import factorial, log

import numpy as np
import pytest
import torch

from illada_core.data.batches import Batch
from illada_core.diffusion.corruption import WORDS, Corruption, corrupt, cut_rows, hide
from illada_core.diffusion.loss import masked_cross_entropy
from illada_core.noise import STREAM_MASK, STREAM_MASK_RATIO, random_words, unit_interval

EOS, MASK = 2, 5
MASKINGS, RATIOS = ("bernoulli", "fixed-count"), ("uniform", "stratified")
RULE = Corruption(mask_id=MASK, seed=11)


def batch_of(places, rows=50, row_tokens=40, segments=(7, 40)):
    """Return the rows at `places` of a run without a shuffle; a row's ids follow from the row."""
    epochs, numbers = np.divmod(np.array(places), rows)
    starts = np.arange(len(places)) * row_tokens
    ids = np.arange(6, 6 + row_tokens) + numbers[:, None] % 20
    ids[:, np.array(segments) - 1] = EOS
    return Batch(
        ids_T=ids.ravel().astype(np.uint32),
        row_ends_R=starts + row_tokens,
        segment_ends_D=(starts[:, None] + np.array(segments)).ravel(),
        places_R=np.array(places),
        epochs_R=epochs,
        rows_R=numbers,
    )


def described(noisy):
    """Return noisy ids, segments and the hidden tokens' weights as plain lists."""
    return noisy.noisy_T.tolist(), noisy.segment_ends, noisy.weight_M.tolist()


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_noise_does_not_depend_on_micro_batches_or_ranks(masking, ratio):
    rule = replace(RULE, masking=masking, ratio=ratio)
    places = range(96, 112)  # one step of 16 rows, over the end of an epoch of 50
    whole = corrupt(batch_of(places), rule, 16)
    whole_noisy = whole.noisy_T.reshape(16, 40).tolist()
    weights = torch.zeros(16 * 40).index_copy(0, whole.hidden_M, whole.weight_M).reshape(16, 40)
    for micro in ([99], [96, 111, 100], list(range(97, 112, 2))):
        part = corrupt(batch_of(micro), rule, 16)
        slots = [place - 96 for place in micro]
        assert part.noisy_T.reshape(-1, 40).tolist() == [whole_noisy[slot] for slot in slots]
        expected = weights[slots].flatten()
        assert part.weight_M.tolist() == expected[expected > 0].tolist()


def test_bernoulli_masks_are_those_of_the_rule_spelled_out():
    rule = replace(RULE, split_probability=0.0)
    noisy = corrupt(batch_of([3, 53]), rule, 2)
    expected, ids = [], batch_of([3, 53]).ids_T.tolist()
    for row_start, epoch in ((0, 0), (40, 1)):
        for segment, (start, end) in enumerate(((0, 7), (7, 40))):
            t = unit_interval(random_words(11, STREAM_MASK_RATIO, epoch, 3, segment))
            p = 0.999 * t + 0.001
            for position in range(start, end):
                word = random_words(11, STREAM_MASK, epoch, 3, position)
                here = row_start + position
                expected.append(MASK if word < round(p * 2**32) else ids[here])
    assert noisy.noisy_T.tolist() == expected


def test_the_noise_stays_what_it_was():
    """Noise that changed would break the resumption of every run, and comparisons over time."""
    kinds = [
        replace(RULE, masking=masking, ratio=ratio) for masking in MASKINGS for ratio in RATIOS
    ]
    hidden = [corrupt(batch_of([3, 60]), kind, 7).hidden_M for kind in kinds]
    assert [(len(each), int(each.sum())) for each in hidden] == [
        (42, 1297),
        (44, 1661),
        (42, 1215),
        (42, 1497),
    ]


@pytest.mark.parametrize("masking", MASKINGS)
def test_noise_is_new_in_each_epoch_and_seed_and_the_same_when_asked_again(masking):
    rule = replace(RULE, masking=masking)
    again = [described(corrupt(batch_of([3]), rule, 4)) for _ in range(2)]
    assert again[0] == again[1]
    others = (corrupt(batch_of([53]), rule, 4), corrupt(batch_of([3]), replace(rule, seed=12), 4))
    assert all(described(other) != again[0] for other in others)


def test_targets_are_the_hidden_ids_and_eos_is_among_them():
    batch = batch_of(range(20))
    noisy = corrupt(batch, RULE, 20)
    ids_T = torch.from_numpy(batch.ids_T.astype(np.int64))
    assert (noisy.noisy_T[noisy.hidden_M] == MASK).all()
    assert torch.equal(noisy.targets_M, ids_T[noisy.hidden_M])
    assert EOS in noisy.targets_M
    restored_T = noisy.noisy_T.index_copy(0, noisy.hidden_M, noisy.targets_M)
    assert torch.equal(restored_T, ids_T)


def test_rows_are_cut_as_often_and_where_they_should_be():
    batch = batch_of(range(4000), rows=4000, segments=(40,))
    cuts = np.setdiff1d(cut_rows(batch, RULE), batch.row_ends_R) % 40
    assert abs(len(cuts) / 4000 - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    counts = np.bincount(cuts, minlength=40)
    assert counts[0] == 0
    assert ((counts[1:] - len(cuts) / 39) ** 2).sum() / (len(cuts) / 39) < 80  # chi-square, 38


def test_cuts_never_make_an_empty_segment():
    batch = batch_of(range(300), row_tokens=3, segments=(1, 3))
    always = replace(RULE, split_probability=1.0)
    ends = cut_rows(batch, always)
    assert (np.diff(ends, prepend=0) > 0).all()
    assert set(ends % 3) == {0, 1, 2}
    single = batch_of(range(300), row_tokens=1, segments=(1,))
    assert cut_rows(single, always).tolist() == single.segment_ends_D.tolist()


def test_a_batch_of_one_token_may_hide_nothing():
    rule = replace(RULE, epsilon=0.0)
    batches = [batch_of([row], row_tokens=1, segments=(1,)) for row in range(50)]
    assert {len(corrupt(batch, rule, 1).hidden_M) for batch in batches} == {0, 1}


def test_fixed_count_hides_exactly_k_and_k_is_uniform():
    rule = replace(RULE, masking="fixed-count", split_probability=0.0)
    batch = batch_of(range(3000), rows=3000, row_tokens=10, segments=(10,))
    noisy = corrupt(batch, rule, 1)
    counts_R = (noisy.noisy_T == MASK).reshape(3000, 10).sum(1)
    torch.testing.assert_close(noisy.weight_M, (10 / counts_R).repeat_interleave(counts_R))
    assert ((np.bincount(counts_R)[1:] - 300) ** 2).sum() / 300 < 28  # chi-square, 9
    places = np.bincount(noisy.hidden_M.numpy() % 10)
    assert abs(places / 3000 - 0.55).max() < 0.04


@pytest.mark.parametrize("rows_per_step", [1, 6, 64])
def test_stratified_ratios_are_spread_evenly_over_a_step(rows_per_step):
    rule = replace(RULE, ratio="stratified", epsilon=0.0, split_probability=0.0)
    for step in (0, 5):
        places = np.arange(step * rows_per_step, (step + 1) * rows_per_step)
        noisy = corrupt(batch_of(places, row_tokens=400, segments=(200, 400)), rule, rows_per_step)
        for segment in (0, 1):
            found = set(noisy.ratio_M[noisy.hidden_M // 200 % 2 == segment].tolist())
            cells = sorted(int(each * rows_per_step) for each in found)
            # A row with a ratio near 0 may hide nothing, and then its ratio is not seen.
            assert len(set(cells)) == len(cells) >= rows_per_step - 1


def test_stratified_ratios_are_uniform_over_steps():
    rule = replace(RULE, ratio="stratified", split_probability=0.0)
    batch = batch_of(range(0, 4000, 8), rows=4000, row_tokens=200, segments=(200,))
    ratios = np.unique(corrupt(batch, rule, 8).ratio_M.numpy())
    assert abs(ratios.mean() - 0.5) < 4 * (1 / 12 / 500) ** 0.5


def test_the_mean_share_of_hidden_tokens_follows_from_epsilon():
    rule = replace(RULE, epsilon=0.2)
    noisy = corrupt(batch_of(range(2000), rows=2000), rule, 1)
    assert noisy.ratio_M.min() > 0.2
    share = len(noisy.hidden_M) / len(noisy.noisy_T)
    assert abs(share - (0.2 + 0.8 / 2)) < 0.02


# Exact expectations. A toy model is a table: for each set of hidden positions, logits of each.

L, V = 4, 3
TRUTH = torch.tensor([2, 0, 1, 1])
MASK_SETS = [hidden for size in range(1, L + 1) for hidden in combinations(range(L), size)]


def loss_of(table, words, draw, rule):
    """Return the loss of one segment by the real corruption and the real loss."""
    hidden_T, ratio_D = hide(np.array(words), np.array([L]), np.array([draw]), rule)
    places = tuple(np.flatnonzero(hidden_T).tolist())
    if not places:
        return 0.0
    total, _ = masked_cross_entropy(
        table[places], torch.eye(V), TRUTH[list(places)], torch.full((len(places),), 1 / ratio_D[0])
    )
    return total.item()


def expected_bernoulli(table, rule):
    """Integrate over t (Gauss-Legendre is exact for these polynomials), enumerate the masks."""
    points, shares = np.polynomial.legendre.leggauss(8)
    expectation = 0.0
    for point, share in zip((points + 1) / 2, shares / 2, strict=True):
        draw = int(point * WORDS)
        p = rule.epsilon + (1 - rule.epsilon) * point
        for hidden in MASK_SETS:
            words = [0 if place in hidden else WORDS - 1 for place in range(L)]
            chance = p ** len(hidden) * (1 - p) ** (L - len(hidden))
            expectation += share * chance * loss_of(table, words, draw, rule)
    return expectation


def expected_fixed_count(table, rule):
    """Enumerate the counts and every order of the random words."""
    draws = [(2 * k + 1) * WORDS // (2 * L) for k in range(L)]
    losses = [
        loss_of(table, words, draw, rule) for draw in draws for words in permutations(range(L))
    ]
    return sum(losses) / len(losses)


def exact(table):
    """The integral of Eq. (1): a set of h hidden of L weighs (h - 1)! (L - h)! / L!."""
    return sum(
        factorial(len(hidden) - 1)
        * factorial(L - len(hidden))
        / factorial(L)
        * torch.nn.functional.cross_entropy(table[hidden], TRUTH[list(hidden)], reduction="sum")
        for hidden in MASK_SETS
    ).item()


def random_table(seed):
    draw = torch.Generator().manual_seed(seed)
    return {hidden: 2 * torch.randn(len(hidden), V, generator=draw) for hidden in MASK_SETS}


def conditionals(joint):
    """Return the true conditionals of a joint distribution, as logits, for every set of hidden."""
    table = {}
    for hidden in MASK_SETS:
        given = joint[tuple(slice(None) if i in hidden else int(TRUTH[i]) for i in range(L))]
        rows = [given.movedim(axis, 0).reshape(V, -1).sum(1) for axis in range(len(hidden))]
        table[hidden] = torch.stack(rows).log()
    return table


@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_unbiased_by_exact_enumeration(seed):
    table = random_table(seed)
    bernoulli = expected_bernoulli(table, replace(RULE, epsilon=0.0))
    fixed = expected_fixed_count(table, replace(RULE, masking="fixed-count"))
    assert bernoulli == pytest.approx(exact(table), rel=1e-5)
    assert fixed == pytest.approx(exact(table), rel=1e-5)


def test_the_bound_is_tight_for_a_model_that_knows_the_joint_distribution():
    draw = torch.Generator().manual_seed(3)
    joint = torch.softmax(2 * torch.randn(V**L, generator=draw), 0).reshape((V,) * L)
    table, nll = conditionals(joint), -log(joint[tuple(TRUTH.tolist())])
    assert expected_bernoulli(table, replace(RULE, epsilon=0.0)) == pytest.approx(nll, rel=1e-5)
    fixed = expected_fixed_count(table, replace(RULE, masking="fixed-count"))
    assert fixed == pytest.approx(nll, rel=1e-5)


def test_epsilon_leaves_out_the_ratios_below_it_and_nothing_else():
    table = random_table(2)
    rule = replace(RULE, epsilon=0.25)
    points, shares = np.polynomial.legendre.leggauss(8)
    reference = 0.0
    for p, share in zip(0.25 + 0.75 * (points + 1) / 2, shares / 2, strict=True):
        for hidden in MASK_SETS:
            chance = p ** len(hidden) * (1 - p) ** (L - len(hidden))
            nll = torch.nn.functional.cross_entropy(
                table[hidden], TRUTH[list(hidden)], reduction="sum"
            )
            reference += share * chance * nll.item() / p
    assert expected_bernoulli(table, rule) == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("masking", MASKINGS)
def test_a_uniform_predictor_loses_ln_v_a_token(masking):
    rows = 4000
    noisy = corrupt(batch_of(range(rows), rows=rows), replace(RULE, masking=masking), 1)
    logits = torch.zeros(len(noisy.hidden_M), 4)
    total, _ = masked_cross_entropy(logits, torch.ones(64, 4), noisy.targets_M, noisy.weight_M)
    tolerance = 1e-5 if masking == "fixed-count" else 0.05
    assert total.item() / (rows * 40) == pytest.approx(log(64), rel=tolerance)


@pytest.mark.parametrize("masking", MASKINGS)
def test_the_gradient_of_a_step_does_not_depend_on_how_it_is_batched(masking):
    rule = replace(RULE, masking=masking, ratio="stratified")
    table = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient(parts):
        for places in parts:
            noisy = corrupt(batch_of(places), rule, 16)
            places_M = noisy.hidden_M - noisy.hidden_M % 40  # each sees its row's first token
            hidden_MC = table[noisy.noisy_T[places_M]].tanh()
            total, _ = masked_cross_entropy(hidden_MC, table, noisy.targets_M, noisy.weight_M)
            (total / (16 * 40)).backward()
        found, table.grad = table.grad, None
        return found

    whole = gradient([range(16)])
    torch.testing.assert_close(gradient([[place] for place in range(16)]), whole)
    ranks = [range(rank, 16, 3) for rank in range(3)]
    torch.testing.assert_close(gradient(ranks), whole)
