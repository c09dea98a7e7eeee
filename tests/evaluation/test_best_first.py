"""Going on with the best choice alone finds the pick of the whole rule, in fewer forwards."""

from functools import partial

import numpy as np
import pytest
import torch

from illada_core.evaluation.scoring import Item, Masking, best_first, confidence, pick
from tests.evaluation.test_scoring import MASK, VOCABULARY, reader_of, scores_of, toy_logits

FULL, BEST = partial(confidence, masking=Masking(MASK)), partial(best_first, masking=Masking(MASK))


def uniform_logits(ids_T, segment_ends, rows_M):
    return torch.zeros(len(rows_M), VOCABULARY)


def sharp_logits(ids_T, segment_ends, rows_M):
    """Logits in which one token has all the probability, so that sums stay at 0 or fall deep."""
    logits_TV = toy_logits(ids_T, segment_ends, rows_M)
    return 200 * logits_TV


def random_items(seed, count=60):
    """Items of one to five choices of one to seven tokens, some of them equal, any divisors."""
    random = np.random.default_rng(seed)
    items = []
    for _ in range(count):
        choices = [
            random.integers(0, 10, random.integers(1, 8)) for _ in range(random.integers(1, 5))
        ]
        if random.random() < 0.5:
            choices.append(choices[0].copy())
        if random.random() < 0.5:  # the same tokens in another order, often close
            choices.append(random.permutation(choices[-1]))
        choices = [choices[i] for i in random.permutation(len(choices))]
        kind = random.integers(0, 3)
        sizes = [1.0, float(random.integers(1, 30)), 0.0]
        divisors = tuple(sizes[kind] or float(len(choice)) for choice in choices)
        items.append(Item(random.integers(0, 10, random.integers(0, 5)), tuple(choices), divisors))
    return items


@pytest.mark.parametrize("logits", [toy_logits, uniform_logits, sharp_logits])
@pytest.mark.parametrize("seed", range(4))
def test_the_pick_is_that_of_the_whole_rule_ties_included(logits, seed):
    items = random_items(seed)
    whole = scores_of(items, FULL, reader_of(logits, budget_tokens=1))
    found = scores_of(items, BEST, reader_of(logits, budget_tokens=1))
    for item, full, best in zip(items, whole, found, strict=True):
        assert pick(best.sums, item.divisors) == pick(full.sums, item.divisors)
        assert best.finished[pick(best.sums, item.divisors)]
        for i, is_finished in enumerate(best.finished):
            if is_finished:
                assert best.sums[i] == full.sums[i]
                assert best.orders[i] == full.orders[i]
            else:
                assert best.sums[i] >= full.sums[i]
                assert best.orders[i] == full.orders[i][: len(best.orders[i])]
    assert sum(best.forwards for best in found) < sum(full.forwards for full in whole)


def test_of_two_equals_the_first_is_picked():
    choice = np.array([1, 2, 3])
    item = Item(np.array([4]), (choice, choice.copy()), (1.0, 1.0))
    (best,) = scores_of([item], BEST, reader_of(budget_tokens=1))
    assert best.sums[0] == best.sums[1]
    assert pick(best.sums, item.divisors) == 0


def test_a_choice_is_asked_on_only_while_it_may_win():
    """Each step beyond the first of a choice began with a sum that was not below the winner's."""
    for item, full in zip(
        items := random_items(9), scores_of(items, FULL, reader_of(budget_tokens=1)), strict=True
    ):
        (best,) = scores_of([item], BEST, reader_of(budget_tokens=1))
        winner = max(total / over for total, over in zip(full.sums, item.divisors, strict=True))
        for i, order in enumerate(best.orders):
            before_last = partial_sum(item, i, order[:-1])
            assert len(order) == 1 or before_last / item.divisors[i] >= winner - 1e-6


def partial_sum(item, choice, order):
    """Return the sum of the first tokens of an order, one canvas at a time."""
    target, prompt, total = item.choices[choice], list(item.prompt), 0.0
    shown = [MASK] * len(target)
    for place in order:
        ids = torch.tensor([*prompt, *shown])
        logits = toy_logits(ids, (len(ids),), torch.arange(len(ids)))
        total += float(logits.log_softmax(-1)[len(prompt) + place, target[place]])
        shown[place] = int(target[place])
    return total
