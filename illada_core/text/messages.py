"""Messages of a conversation, read from JSON and checked: roles, text, thoughts, calls of tools.

A template sees of a message what transformers would show it. Text only: images and audio are
refused. Where a conversation stands in a line of a file is the business of whoever reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from illada_core.decoding import decode_json
from illada_core.errors import DataError

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, "developer", USER, ASSISTANT, "tool")
# The names under which thoughts come, the first that is there wins.
REASONING = ("reasoning_content", "thinking", "reasoning")
TEXT_PART = "text"
VARIABLES = "chat_template_kwargs"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    `content` is its text; `fields` are all its keys where there is more than role and text.
    `is_trained` is False for an answer that nobody is to learn.
    """

    role: str
    content: str
    fields: Mapping[str, Any] | None = None
    is_trained: bool = True

    @property
    def facts(self) -> dict[str, Any]:
        """The message as the JSON object that it came from."""
        return {"role": self.role, "content": self.content, **(self.fields or {})}

    @property
    def reasoning(self) -> str | None:
        """What was thought before it was said."""
        found = (self.facts[name] for name in REASONING if name in self.facts)
        return next(found, None)

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing and calls nothing."""
        return not (self.content.strip() or self.reasoning or self.facts.get("tool_calls"))


@dataclass(frozen=True)
class Dialogue:
    """A conversation with what else a template is given: tools, and variables of its own."""

    messages: tuple[Message, ...]
    tools: Sequence[Mapping[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """The conversation as `parse_dialogue` reads it."""
        fields: dict[str, Any] = {"messages": [message.facts for message in self.messages]}
        if self.tools is not None:
            fields["tools"] = list(self.tools)
        if self.variables:
            fields[VARIABLES] = dict(self.variables)
        return fields


def parse_dialogue(fields: Mapping[str, Any], messages: Any) -> Dialogue:
    """Return the conversation of an object; `messages` are what it holds or makes.

    Raises DataError that says what is wrong.
    """
    variables = fields.get(VARIABLES)
    if variables is not None and not isinstance(variables, dict):
        raise DataError(f"{VARIABLES} is not an object")
    return Dialogue(
        tuple(parse_messages(messages)), parse_tools(fields.get("tools")), variables or {}
    )


def parse_messages(value: Any) -> list[Message]:
    """Check a list of messages. Raises DataError that says what is wrong."""
    if not isinstance(value, list) or not value:
        raise DataError("messages must be a list of at least one message")
    return [parse_message(number, item) for number, item in enumerate(value)]


def parse_message(number: int, item: Any) -> Message:
    """Check one message; keys without a value count as absent, as in transformers."""
    given = (
        {key: value for key, value in item.items() if value is not None}
        if isinstance(item, dict)
        else {}
    )
    role = given.get("role")
    if role not in ROLES:
        raise DataError(f"message {number} has the role {role!r}, not {', '.join(ROLES)}")
    check_calls(number, given)
    for name in REASONING:
        if not isinstance(given.get(name, ""), str):
            raise DataError(f"message {number}: {name} is not a string")
    text = text_of(number, given)
    is_trained = read_weight(number, role, given)
    is_plain = given.keys() == {"role", "content"} and isinstance(given["content"], str)
    return Message(role, text, None if is_plain else given, is_trained)


def text_of(number: int, given: Mapping[str, Any]) -> str:
    """Return the text of a message, that of its parts in their order.

    Raises DataError for one without text, unless the assistant thinks or calls a tool instead.
    """
    content = given.get("content")
    if isinstance(content, list) and content:
        return "".join(text_of_part(number, part) for part in content)
    if isinstance(content, str):
        return content
    does_else = given.get("tool_calls") or any(name in given for name in REASONING)
    if content is None and given["role"] == ASSISTANT and does_else:
        return ""
    raise DataError(f"message {number} has no text as its content")


def text_of_part(number: int, part: Any) -> str:
    """Return the text of a part of a message; DataError for what is no text."""
    if isinstance(part, dict) and part.get("type") == TEXT_PART:
        text = part.get("text")
        if isinstance(text, str):
            return text
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise DataError(f"message {number} holds a part of the kind {kind!r}, and only text is read")


def check_calls(number: int, given: Mapping[str, Any]) -> None:
    """Raise DataError unless calls of tools are a list of objects, each with a function's name."""
    if "function_call" in given:
        raise DataError(f"message {number} has function_call: write it as tool_calls")
    calls = given.get("tool_calls", [])
    if not isinstance(calls, list) or not all(called_name(call) for call in calls):
        raise DataError(f"message {number}: tool_calls must be a list of calls with a name")


def called_name(call: Any) -> str | None:
    """Return the name of the function in a call or in the description of a tool."""
    if not isinstance(call, dict):
        return None
    inner = call.get("function")
    name = (inner if isinstance(inner, dict) else call).get("name")
    return name if isinstance(name, str) else None


def read_weight(number: int, role: str, given: Mapping[str, Any]) -> bool:
    """Tell from `weight` and `train` whether an answer is to be learnt. Raises DataError."""
    asked = [given[name] for name in ("weight", "train") if name in given]
    for value in asked:
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise DataError(f"message {number} has the weight {value!r}, not 0 or 1")
    if role != ASSISTANT and any(asked):
        raise DataError(f"message {number} is {role}: only answers of the assistant have a weight")
    return all(asked)


def parse_tools(value: Any) -> list[dict[str, Any]] | None:
    """Check the tools of a conversation: a list of objects, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = decode_json(value) if value.strip() else None
        except ValueError:
            raise DataError("tools is text that is no JSON") from None
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise DataError("tools must be a list of objects")
    return value
