"""The shapes in which people have items: which fields are the prompt, the choices, the answer.

Texts stay as they are: no "Question:" is put before them, no bracket taken out. No torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from illada_core.errors import DataError, UsageError
from illada_core.evaluation.answers import ANSWERS, OTHER_ANSWERS, place_of, refuse_unread_answer
from illada_core.inference.requests import checked_ids
from illada_core.text.harmless import strings_in
from illada_core.text.messages import Dialogue, parse_dialogue

PROMPTS = ("prompt", "query", "question", "question_stem", "ctx", "context", "goal", "messages")
CHOICES = ("choices", "options", "endings")
IDS = ("prompt_ids", "choices_ids")
PARTIAL = ("context_options", "continuation", "sentence", "option1", "option2")  # WinoGrande's
FIELDS = (*PROMPTS, *CHOICES, "sol1", "sol2", *PARTIAL, *IDS, *ANSWERS, "id")
GAP = "_"  # in a sentence of WinoGrande
SHAPES_HINT = "the shapes are in docs/scoring.md; --map prompt=NAME reads a field of another"


@dataclass(frozen=True)
class ChoiceRequest:
    """A prompt with its choices, both as text or both as ids; `answer` is the right one's place.

    A conversation is a prompt too: the choices are what the assistant may say next. Where the
    options are contexts (partial evaluation), `contexts` holds a prompt for each choice, `prompt`
    is empty, and the choices are one continuation over and over.
    """

    prompt: str | Dialogue | list[int]
    choices: Sequence[Any]
    answer: int | None = None
    line: int | None = None
    id: Any = None
    contexts: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """The texts that stand before choices; none where there are ids."""
        if isinstance(self.prompt, Dialogue):
            return [*strings_in(self.prompt.fields)]
        return [self.prompt, *self.contexts] if isinstance(self.prompt, str) else []


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Read `field=name` pairs: our field, and the name it has in a file. Raises UsageError."""
    names = {}
    for pair in pairs:
        field, equals, name = pair.partition("=")
        if not equals or field not in FIELDS:
            raise UsageError(
                f"--map is FIELD=NAME, not {pair}", f"known fields: {', '.join(sorted(FIELDS))}"
            )
        if not name and field not in ANSWERS:
            raise UsageError(f"--map {pair} names nothing", "only the answer may be left out")
        names[field] = name
    return names


def read_choice_request(
    line: int | None, fields: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> ChoiceRequest:
    """Read the fields of an item, some of them under other names.

    Raises DataError that says what is missing or wrong.
    """
    found = opened_stem(renamed(fields, names or {}))
    refuse_unread_answer(found)
    if any(name in found for name in IDS):
        read = read_ids
    elif "context_options" in found or "option1" in found:
        read = read_partial
    else:
        read = read_texts
    asked = read(found)
    name = one_name(found, ANSWERS)
    answer = None if name is None else place_of(name, found[name], asked.options, asked.labels)
    return ChoiceRequest(asked.prompt, asked.choices, answer, line, found.get("id"), asked.contexts)


@dataclass(frozen=True)
class Asked:
    """What a line asks: prompt and choices, and the `options` and `labels` an answer may name."""

    prompt: Any
    choices: list[Any]
    options: list[Any]
    labels: tuple[str, ...] | None = None
    contexts: tuple[str, ...] = ()


def read_ids(fields: Mapping[str, Any]) -> Asked:
    """Read an item of ids. Raises DataError."""
    choices = fields.get("choices_ids")
    if not isinstance(choices, list) or not choices:
        raise DataError("choices (or choices_ids) must be a list of at least one choice")
    prompt = checked_ids("prompt_ids", fields.get("prompt_ids"))
    choices = [checked_ids("an element of choices_ids", ids) for ids in choices]
    return Asked(prompt, choices, choices)


def read_texts(fields: Mapping[str, Any]) -> Asked:
    """Read an item of a prompt and its choices. Raises DataError."""
    prompt = prompt_of(fields)
    choices, labels = choices_of(fields)
    return Asked(prompt, choices, choices, labels)


def read_partial(fields: Mapping[str, Any]) -> Asked:
    """Read an item whose options are contexts of one continuation, as WinoGrande's are.

    Raises DataError.
    """
    if "context_options" in fields:
        options, after, labels = fields["context_options"], fields.get("continuation"), None
        before = ""
    else:
        options, labels = [fields["option1"], fields.get("option2")], ("1", "2")
        before, gap, after = str(fields.get("sentence")).partition(GAP)
        if not gap:
            raise DataError(f"the sentence has no gap ({GAP}) for its options")
        after = after.strip()
    if not isinstance(options, list) or not options or not all(isinstance(o, str) for o in options):
        raise DataError("the options must be a list of strings", SHAPES_HINT)
    if not isinstance(after, str):
        raise DataError("a line with context_options must hold continuation as a string")
    contexts = tuple(before + option for option in options)
    return Asked("", [after] * len(options), options, labels, contexts)


def renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return fields under our names. Raises DataError where one that was named is not there.

    What is named stands in for all that could be read in its place.
    """
    taken = {field: value_at(fields, name) for field, name in names.items() if name}
    replaced = set(taken)
    for group in (PROMPTS, CHOICES, (*ANSWERS, *OTHER_ANSWERS)):
        if any(field in names for field in group):
            replaced |= set(group)
    return {name: value for name, value in fields.items() if name not in replaced} | taken


def value_at(fields: Mapping[str, Any], name: str) -> Any:
    """Return the value under a name, or under a path of names with dots between."""
    if name in fields:
        return fields[name]
    value: Any = fields
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise DataError(f"there is no field {name}, which --map names")
        value = value[part]
    return value


def opened_stem(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields whose question is a text: ARC's first files had stem and choices inside."""
    question = fields.get("question")
    if not isinstance(question, dict):
        return fields
    inside = {"question": question.get("stem"), "choices": question.get("choices")}
    return {**fields, **{name: value for name, value in inside.items() if value is not None}}


def one_name(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return which of several names has a value; None if none has. Two are an error."""
    present = [name for name in names if fields.get(name) is not None]
    if len(present) > 1:
        raise DataError(f"a line must not hold both {' and '.join(present)}")
    return present[0] if present else None


def prompt_of(fields: Mapping[str, Any]) -> str | Dialogue:
    """Return the prompt of an item, or its conversation. Raises DataError."""
    name = one_name(fields, PROMPTS)
    if name == "messages":
        return parse_dialogue(fields, fields["messages"])
    if name is None or not isinstance(fields[name], str):
        raise DataError(
            "a line must hold prompt (or query) as a string, messages, or prompt_ids", SHAPES_HINT
        )
    text: str = fields[name]
    return text


def choices_of(fields: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...] | None]:
    """Return the choices of an item, and their labels if they have some. Raises DataError."""
    name = one_name(fields, (*CHOICES, "sol1", "continuation"))
    choices: Any = fields[name] if name else None
    if name == "sol1":
        choices = [fields["sol1"], fields.get("sol2")]
    elif name == "continuation":
        choices = [choices]
    choices, labels = unlabelled(choices)
    if not isinstance(choices, list) or not choices:
        raise DataError(
            "choices (or choices_ids) must be a list of at least one choice", SHAPES_HINT
        )
    if not all(isinstance(text, str) for text in choices):
        raise DataError("choices must be strings")
    if labels is not None and len(labels) != len(choices):
        raise DataError(f"there are {len(choices)} choices and {len(labels)} labels")
    return choices, labels


def unlabelled(choices: Any) -> tuple[Any, tuple[str, ...] | None]:
    """Take labels off choices: {"text": […], "label": […]}, {"A": …}, [{"text": …, "label": …}]."""
    if isinstance(choices, dict):
        if isinstance(choices.get("text"), list) and isinstance(choices.get("label"), list):
            return choices["text"], tuple(map(str, choices["label"]))
        return list(choices.values()), tuple(choices)
    if isinstance(choices, list) and choices and all(isinstance(each, dict) for each in choices):
        texts = [each.get("text") for each in choices]
        labels = [each.get("label") for each in choices]
        return texts, None if None in labels else tuple(map(str, labels))
    return choices, None
