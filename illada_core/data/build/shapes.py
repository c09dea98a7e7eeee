"""A line of JSON to a conversation, in each of the shapes in which people keep examples.

Messages; a prompt and a response or completion (texts, or lists of messages); ShareGPT's
conversations; Alpaca's instruction, input and output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from illada_core.decoding import decode_record, shaped
from illada_core.errors import DataError
from illada_core.text.messages import (
    ASSISTANT,
    SYSTEM,
    USER,
    Dialogue,
    Message,
    parse_dialogue,
)

SHAPES = (
    "none of messages; prompt with response or completion; conversations; instruction with output"
)
# What ShareGPT calls those who speak.
SPEAKERS = {
    "system": SYSTEM,
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "bing": ASSISTANT,
    "bard": ASSISTANT,
    "model": ASSISTANT,
    "assistant": ASSISTANT,
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "developer": "developer",
}
MEDIA = ("image", "images", "audio", "audios", "video", "videos")


class Unusable(Exception):
    """A line that is no example; `reason` in few words, and the details of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def read_dialogue(line: str) -> Dialogue:
    """Return the conversation that a line of JSON holds. Raises Unusable."""
    try:
        value = decode_record(line)
    except ValueError as error:
        raise Unusable("broken JSON", str(error)) from None
    if not isinstance(value, dict):
        raise Unusable("no example", "not a JSON object")
    fields = {key: item for key, item in value.items() if item is not None}
    try:
        dialogue = dialogue_of(fields)
    except DataError as error:
        raise Unusable("no example", error.sentence) from None
    check_roles(dialogue)
    return dialogue


def dialogue_of(fields: Mapping[str, Any]) -> Dialogue:
    """Return the conversation of an object. Raises DataError that says what is wrong."""
    media = next((name for name in MEDIA if fields.get(name)), None)
    if media:
        raise DataError(f"it holds {media}, and only text is read")
    return parse_dialogue(fields, messages_in(fields))


def messages_in(fields: Mapping[str, Any]) -> Any:
    """Return the messages that an object names or makes; DataError if it has no known shape."""
    if "messages" in fields:
        return fields["messages"]
    if "prompt" in fields and ("response" in fields or "completion" in fields):
        answer = "response" if "response" in fields else "completion"
        return [
            *spoken(fields, "system", SYSTEM),
            *spoken(fields, "prompt", USER),
            *spoken(fields, answer, ASSISTANT),
        ]
    if "conversations" in fields:
        return [*spoken(fields, "system", SYSTEM), *shared(fields["conversations"])]
    if "instruction" in fields and "output" in fields:
        return instructed(fields)
    raise DataError(SHAPES)


def spoken(fields: Mapping[str, Any], key: str, role: str) -> list[Any]:
    """Return what stands under a key as messages: those that are there, or one of a role."""
    value = fields.get(key)
    if isinstance(value, list) and key != "system":
        return value
    if value is None or (key == "system" and value == ""):
        return []
    if not isinstance(value, str):
        raise DataError(f'"{key}" is not a string')
    return [{"role": role, "content": value}]


def shared(value: Any) -> list[Any]:
    """Return ShareGPT's conversations as messages; some files have messages under that name."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError("conversations must be a list of objects")
    return [shared_message(number, item) for number, item in enumerate(value)]


def shared_message(number: int, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message that says who speaks as `from` and what as `value`."""
    if "role" in item:
        return dict(item)
    speaker, text = item.get("from"), item.get("value")
    others = {key: inner for key, inner in item.items() if key not in ("from", "value")}
    if speaker == "function_call":
        return {"role": ASSISTANT, "tool_calls": called(number, text), **others}
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise DataError(f"message {number} is from {speaker!r}, not {', '.join(SPEAKERS)}")
    return {"role": SPEAKERS[speaker], "content": text, **others}


def called(number: int, text: Any) -> list[dict[str, Any]]:
    """Return the calls that a message of the kind function_call holds as JSON."""
    try:
        value = decode_record(shaped(text, str))
    except ValueError:
        raise DataError(f"message {number} holds a call of a function that is no JSON") from None
    calls = value if isinstance(value, list) else [value]
    return [{"type": "function", "function": call} for call in calls]


def instructed(fields: Mapping[str, Any]) -> list[Any]:
    """Return the messages of an instruction with its input and output, and what came before."""
    texts = [fields[key] for key in ("instruction", "input") if fields.get(key, "") != ""]
    if not all(isinstance(text, str) for text in texts):
        raise DataError('"instruction" and "input" must be strings')
    history = fields.get("history", [])
    pairs = isinstance(history, list) and all(
        isinstance(pair, list) and len(pair) == 2 for pair in history
    )
    if not pairs:
        raise DataError("history must be a list of pairs")
    earlier = [
        {"role": role, "content": text}
        for pair in history
        for role, text in zip((USER, ASSISTANT), pair, strict=True)
    ]
    return [
        *spoken(fields, "system", SYSTEM),
        *earlier,
        {"role": USER, "content": "\n".join(texts)},
        *spoken(fields, "output", ASSISTANT),
    ]


def check_roles(dialogue: Dialogue) -> None:
    """Raise Unusable unless the assistant comes last, and says something wherever it speaks."""
    answers: list[Message] = [m for m in dialogue.messages if m.role == ASSISTANT]
    if dialogue.messages[-1].role != ASSISTANT:
        raise Unusable("roles out of order", "the last message is not assistant")
    if any(answer.is_blank for answer in answers):
        raise Unusable("empty response")
