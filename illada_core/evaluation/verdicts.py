"""What scores say of an item: the choice that is picked, and whether that is right."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from illada_core.errors import CheckpointError
from illada_core.evaluation.items import ChoiceItem, ChoiceRequest
from illada_core.evaluation.scoring import Scores, pick

DECIMALS = 6


@dataclass(frozen=True)
class Verdict:
    """The scores of an item's choices, over its divisors, and the best of them.

    `standard_errors` and `samples` belong to the likelihood rule. `correct` is None where no
    answer is known, `bytes` where choices are only ids. `tokens` and `bytes` are sizes of choices.
    """

    request: ChoiceRequest
    scores: tuple[float, ...]
    pick: int
    answer: int | None
    correct: bool | None
    forwards: int
    tokens: tuple[int, ...]
    bytes: tuple[int, ...] | None
    standard_errors: tuple[float | None, ...] | None = None
    samples: int | None = None

    def fields(self) -> dict[str, Any]:
        """Return the JSON object of this verdict, with the line and id of its request if any."""
        named = {"line": self.request.line, "id": self.request.id}
        fields = {name: value for name, value in named.items() if value is not None}
        fields["scores"] = list(self.scores)
        if self.standard_errors is not None:
            fields["standard_errors"] = list(self.standard_errors)
            fields["samples"] = self.samples
        return {
            **fields,
            "pick": self.pick,
            "answer": self.answer,
            "correct": self.correct,
            "forwards": self.forwards,
            "tokens": list(self.tokens),
            "bytes": list(self.bytes) if self.bytes else None,
        }


def judge(asked: ChoiceItem, scores: Scores) -> Verdict:
    """Return the verdict of a scored item.

    Raises CheckpointError for scores that are no numbers.
    """
    if not all(map(isfinite, scores.sums)):
        raise CheckpointError(
            "the model gives probabilities that are not numbers", "try --dtype float32"
        )
    divisors, answer = asked.item.divisors, asked.request.answer
    errors = scores.standard_errors
    if errors is not None:
        errors = tuple(
            None if error is None else round(error / divisor, DECIMALS)
            for error, divisor in zip(errors, divisors, strict=True)
        )
    picked = pick(scores.sums, divisors)
    return Verdict(
        request=asked.request,
        scores=tuple(
            round(total / divisor, DECIMALS)
            for total, divisor in zip(scores.sums, divisors, strict=True)
        ),
        pick=picked,
        answer=answer,
        correct=None if answer is None else picked == answer,
        forwards=scores.forwards,
        tokens=tuple(len(ids) for ids in asked.item.choices),
        bytes=asked.text_bytes,
        standard_errors=errors,
        samples=scores.samples,
    )
