"""Which choice the answer of an item means: its place, its label or its text. No torch."""

import json
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from illada_core.errors import DataError

# Where an item has its answer.
ANSWERS = ("answer", "gold", "answerKey", "label")
# Where other sets have it, in a way that nobody has told us.
OTHER_ANSWERS = (
    "answers",
    "answer_id",
    "answer_idx",
    "answer_index",
    "answer_key",
    "answer_label",
    "cop",
    "correct",
    "correct_answer",
    "correct_choice",
    "correct_idx",
    "correct_index",
    "correct_option",
    "expected",
    "expected_index",
    "gold_idx",
    "gold_index",
    "gold_label",
    "ground_truth",
    "label_idx",
    "labels",
    "right_answer",
    "solution",
    "target",
    "target_idx",
)


def refuse_unread_answer(fields: dict[str, Any]) -> None:
    """Raise DataError for an item whose answer seems to stand where nobody looks for it."""
    if any(name in fields for name in ANSWERS):
        return
    for name in OTHER_ANSWERS:
        if fields.get(name) is not None:
            raise DataError(
                f"{name} seems to hold the answer, and what it means is not known",
                f"--map answer={name} reads it, --map answer= says that there is none",
            )


def place_of(name: str, answer: Any, choices: Sequence[Any], labels: Sequence[str] | None) -> int:
    """Return which choice the answer under a name means.

    Raises DataError for an answer that is not understood, or that may mean two choices.
    """
    places = sorted(readings(name, answer, choices, labels))
    if len(places) == 1:
        return places[0]
    if places:
        raise DataError(
            f"the answer {json.dumps(answer)} may mean choice {places[0]} or {places[1]}, counted "
            "from 0",
            "give its place as a number under gold",
        )
    raise DataError(
        f"the answer {json.dumps(answer)} is none of the {len(choices)} choices",
        "give its place, counted from 0, or its text; null where there is none",
    )


def readings(
    name: str, answer: Any, choices: Sequence[Any], labels: Sequence[str] | None
) -> set[int]:
    """Return the places that an answer may mean.

    An answerKey is a label where there are labels, and a number under gold is a place. Elsewhere a
    number is a place or a label, and a string is a text, a label, or (under label) a place in
    digits; a letter counts as a label of what has none only where no choice is that letter.
    """
    in_range = set(range(len(choices)))
    by_label = only(labels or (), str(answer)) if type(answer) in (int, str) else set()
    if name == "answerKey" and labels:
        return by_label
    if type(answer) is int:
        return ({answer} & in_range) | (set() if name == "gold" else by_label)
    if not isinstance(answer, str):
        return set()
    found = by_label | only(choices, answer)
    if name == "label" and answer.isascii() and answer.isdigit():
        found |= {int(answer)} & in_range
    if not found and not labels and len(answer) == 1:
        return only(ascii_uppercase[: len(choices)], answer)
    return found


def only(names: Sequence[Any], name: str) -> set[int]:
    """Return the place of a name that is there once."""
    return {list(names).index(name)} if list(names).count(name) == 1 else set()
