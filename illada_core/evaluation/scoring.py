"""Score choices after a prompt: by confidence, by the likelihood bound, in one shot, or exactly.

A rule is a generator: it asks questions, is sent their log-probabilities and returns the scores
of one item. `score` runs the rules of many items at once through the same batches.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import numpy as np

from illada_core.evaluation.bound import Estimate, draw, gap_error
from illada_core.evaluation.questions import Question, Reader, read

FIRST_SAMPLES = 16
# Open items ask for about this many batches at a time, so that equal lengths can meet.
BATCHES_AHEAD = 4
# What the sum of a choice is: its log-likelihood, a bound below it, or neither.
Kind = Literal["exact", "bound", "score"]
# The z of a two-sided 95 % interval.
Z_95 = 1.959964


@dataclass(frozen=True, eq=False)
class Item:
    """A prompt and its choices, as ids.

    Choices are compared by score over `divisors` (1 to compare sums). `noise_key` below 2^32
    names the draws of the likelihood rule, one set for all choices. Where choices have prompts of
    their own, these are the `contexts`.
    """

    prompt: np.ndarray
    choices: tuple[np.ndarray, ...]
    divisors: tuple[float, ...]
    noise_key: int = 0
    contexts: tuple[np.ndarray, ...] = ()

    def prompt_of(self, choice: int) -> np.ndarray:
        """Return what stands before a choice."""
        return self.contexts[choice] if self.contexts else self.prompt


@dataclass(frozen=True)
class Scores:
    """What a rule says of an item: a sum of log-probabilities (nats) for each choice.

    `kind` tells what these are of the choices' log-likelihoods. `standard_errors` and `samples`
    belong to the likelihood rule (error 0: the bound is exact; None: a single draw), `orders` to
    the confidence rule: the places in order of revelation. Where not all choices are `finished`,
    the sums of the others are upper bounds.
    """

    sums: tuple[float, ...]
    kind: Kind = "score"
    forwards: int = 0
    standard_errors: tuple[float | None, ...] | None = None
    samples: int | None = None
    orders: tuple[tuple[int, ...], ...] | None = None
    finished: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Masking:
    """How a choice becomes a canvas: the mask, and what stands after it (a visible eos)."""

    mask_id: int
    tail: tuple[int, ...] = ()


Asking = Generator[list[Question], list[np.ndarray], Scores]
Rule = Callable[[Item], Asking]


def question(item: Item, choice: int, hidden_L: np.ndarray, masking: Masking) -> Question:
    """Lay out prompt, choice and tail with some tokens of the choice hidden and asked about."""
    prompt, target = item.prompt_of(choice), item.choices[choice]
    shown = np.where(hidden_L, masking.mask_id, target)
    ids = np.concatenate((prompt, shown, np.array(masking.tail, dtype=np.int64)))
    places = np.flatnonzero(hidden_L)
    return Question(ids, len(prompt), len(prompt) + places, target[places])


def exact(item: Item) -> Asking:
    """Sum the log-probabilities of a choice's tokens, each given all before it: one forward.

    It is the log-likelihood where attention is causal and a row of logits speaks of the next token.
    """
    questions = []
    for number, choice in enumerate(item.choices):
        prompt = item.prompt_of(number)
        places = len(prompt) + np.arange(len(choice))
        questions.append(Question(np.concatenate((prompt, choice)), len(prompt), places, choice))
    answers = yield questions
    return Scores(tuple(float(log_probs.sum()) for log_probs in answers), kind="exact")


def one_shot(item: Item, masking: Masking) -> Asking:
    """Sum the log-probabilities of a choice's tokens with all of them hidden: one forward."""
    hidden = [np.ones(len(choice), dtype=bool) for choice in item.choices]
    answers = yield [question(item, i, all_L, masking) for i, all_L in enumerate(hidden)]
    return Scores(tuple(float(log_probs.sum()) for log_probs in answers))


class Revealing:
    """A choice under way from all masks to its text: what is hidden, and the sum so far."""

    def __init__(self, length: int) -> None:
        self.hidden_L = np.ones(length, dtype=bool)
        self.total = 0.0
        self.order: list[int] = []

    @property
    def is_finished(self) -> bool:
        return not self.hidden_L.any()

    def reveal(self, log_probs: np.ndarray) -> None:
        """Show the hidden token that is surest, the leftmost of equals, and add it to the sum."""
        surest = log_probs.argmax()
        place = int(np.flatnonzero(self.hidden_L)[surest])
        self.total += float(log_probs[surest])
        self.hidden_L[place] = False
        self.order.append(place)


def confidence(item: Item, masking: Masking) -> Asking:
    """Reveal each choice from all masks, the surest true token first, and sum (iLLaDA Eq. 2).

    One forward a token; of equally sure tokens the leftmost goes first.
    """
    choices = [Revealing(len(choice)) for choice in item.choices]
    while unfinished := [i for i, choice in enumerate(choices) if not choice.is_finished]:
        answers = yield [question(item, i, choices[i].hidden_L, masking) for i in unfinished]
        for i, log_probs in zip(unfinished, answers, strict=True):
            choices[i].reveal(log_probs)
    return Scores(
        tuple(choice.total for choice in choices),
        orders=tuple(tuple(choice.order) for choice in choices),
    )


def best_first(item: Item, masking: Masking) -> Asking:
    """Find the pick of the confidence rule, and leave choices that cannot win unfinished.

    No log-probability is above 0, so sums only fall and each bounds its choice from above: when
    the best of all sums is a finished one, it is the pick. Going on with the best alone asks no
    question that a proof of the pick could do without, but for the first of each choice, which
    equal lengths share.
    """
    choices = [Revealing(len(choice)) for choice in item.choices]
    asked = list(range(len(choices)))
    while True:
        answers = yield [question(item, i, choices[i].hidden_L, masking) for i in asked]
        for i, log_probs in zip(asked, answers, strict=True):
            choices[i].reveal(log_probs)
        sums = tuple(choice.total for choice in choices)
        asked = [pick(sums, item.divisors)]
        if choices[asked[0]].is_finished:
            break
    return Scores(
        sums,
        orders=tuple(tuple(choice.order) for choice in choices),
        finished=tuple(choice.is_finished for choice in choices),
    )


def likelihood(item: Item, masking: Masking, samples: int, seed: int, sure: float) -> Asking:
    """Estimate the likelihood bound of each choice (LLaDA, without replacement).

    Draws double from 16 to `samples`, and stop early once the best choice leads every other by
    more than `sure` standard errors of the gap (0: never). A choice with no more hidden sets
    than draws gets the exact bound.
    """
    known: list[dict[bytes, float]] = [{} for _ in item.choices]
    count = min(FIRST_SAMPLES, samples)
    while True:
        draws = [draw(len(choice), count, seed, item.noise_key) for choice in item.choices]
        new = [
            (i, hidden_L.tobytes(), hidden_L)
            for i, drawn in enumerate(draws)
            for hidden_L in np.unique(drawn.hidden_NL, axis=0)
            if hidden_L.tobytes() not in known[i]
        ]
        questions = [question(item, i, hidden_L, masking) for i, _, hidden_L in new]
        answers = (yield questions) if questions else []
        for (i, key, _), log_probs in zip(new, answers, strict=True):
            known[i][key] = float(log_probs.sum())
        estimates = [
            Estimate(
                drawn.weight_N * [known[i][hidden_L.tobytes()] for hidden_L in drawn.hidden_NL],
                drawn.exact,
            )
            for i, drawn in enumerate(draws)
        ]
        if count == samples or (sure and is_decided(estimates, item.divisors, sure)):
            break
        count = min(2 * count, samples)
    return Scores(
        tuple(estimate.total for estimate in estimates),
        kind="bound",
        standard_errors=tuple(estimate.error for estimate in estimates),
        samples=count,
    )


def is_decided(estimates: list[Estimate], divisors: Sequence[float], sure: float) -> bool:
    """Tell whether the best choice leads each other by more than `sure` errors of the gap."""
    scaled = [estimate.over(divisor) for estimate, divisor in zip(estimates, divisors, strict=True)]
    best = max(scaled, key=lambda estimate: estimate.total)
    for rival in scaled:
        error = gap_error(best, rival)
        if rival is not best and (error is None or best.total - rival.total <= sure * error):
            return False
    return len(scaled) > 1


class Open:
    """An item under way: the rule's last questions, and the answers that are in."""

    def __init__(self, asking: Asking, reader: Reader) -> None:
        self.asking = asking
        self.reader = reader
        self.forwards = 0
        self.scores: Scores | None = None
        self.advance(None)

    def advance(self, answers: list[np.ndarray] | None) -> None:
        """Send the answers to the rule, and take its next questions or its scores."""
        try:
            self.questions = self.asking.send(answers)  # type: ignore[arg-type]  # None starts it
            self.answers = [np.empty(0)] * len(self.questions)
            self.forwards += self.reader.forwards(self.questions)
        except StopIteration as end:
            self.questions = []
            self.scores = replace(end.value, forwards=self.forwards)

    def tokens(self) -> int:
        """Return the tokens of the canvases it is waiting for."""
        return sum(len(question.canvas_L) for question in self.questions)


@dataclass(frozen=True)
class Scored:
    """What one batch told: its size, and the scores that are known now, in order of their items."""

    scores: tuple[Scores, ...] = ()
    forwards: int = 0
    tokens: int = 0


class Scorer:
    """Items under way: `add` brings one in, `step` answers what their rules ask at the moment.

    Scores do not depend on what shares a batch.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.under_way: deque[Open] = deque()
        self.asked_tokens = 0

    @property
    def has_room(self) -> bool:
        """Tell whether another item may come in."""
        return self.asked_tokens < BATCHES_AHEAD * self.reader.budget_tokens

    def add(self, item: Item, rule: Rule) -> None:
        """Take an item in, to be scored by a rule."""
        self.under_way.append(Open(rule(item), self.reader))
        self.asked_tokens += self.under_way[-1].tokens()

    def step(self) -> Iterator[Scored]:
        """Answer the questions of all items; yields after every batch, at last with scores."""
        asked = [(active, i) for active in self.under_way for i in range(len(active.questions))]
        for answers in read([active.questions[i] for active, i in asked], self.reader):
            for place, log_probs in answers.by_place.items():
                active, i = asked[place]
                active.answers[i] = log_probs
            yield Scored(forwards=answers.forwards, tokens=answers.tokens)
        for active in self.under_way:
            if active.scores is None:
                active.advance(active.answers)
        finished = []
        while self.under_way and (scores := self.under_way[0].scores):
            finished.append(scores)
            self.under_way.popleft()
        self.asked_tokens = sum(active.tokens() for active in self.under_way)
        yield Scored(tuple(finished))


def score(items: Iterable[Item], rule: Rule, reader: Reader) -> Iterator[Scored]:
    """Score items, many at a time; yields after every batch, scores in the order of the items.

    Items are drawn when there is room for them, and enter while others are unfinished.
    """
    scorer, waiting = Scorer(reader), iter(items)
    item = next(waiting, None)
    while item is not None or scorer.under_way:
        while item is not None and scorer.has_room:
            scorer.add(item, rule)
            item = next(waiting, None)
        yield from scorer.step()


def pick(sums: Sequence[float], divisors: Sequence[float]) -> int:
    """Return the choice with the highest score over its divisor, the first of equals."""
    scaled = [total / divisor for total, divisor in zip(sums, divisors, strict=True)]
    return scaled.index(max(scaled))


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); total is at least 1."""
    share, z2 = right / total, Z_95**2 / total
    middle = (share + z2 / 2) / (1 + z2)
    half = sqrt(z2 * share * (1 - share) + z2**2 / 4) / (1 + z2)
    return middle - half, middle + half
