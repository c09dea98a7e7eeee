"""What scores say of an item: the choice that is picked, and whether that is right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from illada_core.evaluation.items import ChoiceItem
from illada_core.evaluation.measures import NORMALIZES, Normalize, Sizes
from illada_core.evaluation.scoring import Kind, Scores, pick
from illada_core.evaluation.shapes import ChoiceRequest

DECIMALS = 6


@dataclass(frozen=True)
class Verdict:
    """The scores of an item's choices, over its divisors, and the best of them.

    `sums` are the scores before any division, `picks` the best choice by each measure; `kind`
    tells what the sums are of the choices' log-likelihoods: exact, a bound below them, or a score
    that is neither. `upper_bounds` is there where only the pick was wanted: scores and sums of
    choices that cannot win are None then, and this says what their scores are below.
    `standard_errors` and `samples` belong to the likelihood rule. `correct` is None where no answer
    is known; `apart` are the choices that were encoded without their prompt.
    """

    request: ChoiceRequest
    scores: tuple[float | None, ...]
    pick: int
    answer: int | None
    correct: bool | None
    forwards: int
    sizes: Sizes
    sums: tuple[float | None, ...]
    picks: dict[Normalize, int | None]
    kind: Kind = "score"
    apart: tuple[int, ...] = ()
    upper_bounds: tuple[float | None, ...] | None = None
    standard_errors: tuple[float | None, ...] | None = None
    samples: int | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.sizes.tokens

    @property
    def bytes(self) -> tuple[int, ...] | None:
        return self.sizes.bytes

    @property
    def characters(self) -> tuple[int, ...] | None:
        return self.sizes.characters

    def fields(self) -> dict[str, Any]:
        """Return the JSON object of this verdict, with the line and id of its request if any."""
        named = {"line": self.request.line, "id": self.request.id}
        fields = {name: value for name, value in named.items() if value is not None}
        fields["scores"] = list(self.scores)
        if self.upper_bounds is not None:
            fields["upper_bounds"] = list(self.upper_bounds)
        if self.standard_errors is not None:
            fields["standard_errors"] = list(self.standard_errors)
            fields["samples"] = self.samples
        return {
            **fields,
            "kind": self.kind,
            "pick": self.pick,
            "answer": self.answer,
            "correct": self.correct,
            "forwards": self.forwards,
            "tokens": list(self.tokens),
            "bytes": list(self.bytes) if self.bytes else None,
            "characters": list(self.characters) if self.characters else None,
            "sums": list(self.sums),
            "picks": dict(self.picks),
            "apart": list(self.apart),
        }


def judge(asked: ChoiceItem, scores: Scores) -> Verdict:
    """Return the verdict of a scored item."""
    divisors, answer = asked.item.divisors, asked.request.answer
    count = len(divisors)
    finished = scores.finished or (True,) * count
    scaled = over(scores.sums, divisors)
    bounds = where([not done for done in finished], scaled)
    picked = pick(scores.sums, divisors)
    return Verdict(
        request=asked.request,
        scores=where(finished, scaled),
        pick=picked,
        answer=answer,
        correct=None if answer is None else picked == answer,
        forwards=scores.forwards,
        sizes=asked.sizes,
        sums=where(finished, over(scores.sums, (1.0,) * count)),
        picks={**all_picks(asked, scores), asked.normalize: picked},
        kind=scores.kind,
        apart=asked.apart,
        upper_bounds=bounds if scores.finished else None,
        standard_errors=over(scores.standard_errors, divisors) if scores.standard_errors else None,
        samples=scores.samples,
    )


def over(numbers: Sequence[float | None], divisors: Sequence[float]) -> tuple[float | None, ...]:
    """Return numbers over their divisors, as they are written."""
    return tuple(
        None if number is None else round(number / divisor, DECIMALS)
        for number, divisor in zip(numbers, divisors, strict=True)
    )


def where(known: Sequence[bool], numbers: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return numbers, None in place of those that are not known."""
    return tuple(
        number if is_known else None for is_known, number in zip(known, numbers, strict=True)
    )


def all_picks(asked: ChoiceItem, scores: Scores) -> dict[Normalize, int | None]:
    """Return the pick by each measure; None where sizes or sums are not known."""
    picks: dict[Normalize, int | None] = {}
    for normalize in NORMALIZES:
        divisors = asked.sizes.divisors(normalize)
        is_known = divisors is not None and scores.finished is None
        picks[normalize] = pick(scores.sums, divisors or ()) if is_known else None
    return picks
