"""A chat template at work: a conversation in, the text that a model was trained to read out.

It is given what transformers gives: messages, tools, documents, special tokens by their names, the
date. What of the text is a mark and what only looks like one is the business of conversations.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from illada_core.errors import DataError, UsageError
from illada_core.text.harmless import begins_mark, kept_strings, pattern_of
from illada_core.text.messages import ASSISTANT, REASONING, SYSTEM, USER, Dialogue, Message
from illada_core.text.template_child import DateAsked, render
from illada_core.text.template_environment import TemplateError, literals_of

# Every turn opens with bos and its role; eos is what an assistant says when it has finished.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ bos_token }}{{ message['role'] }}\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)
PROBE = "Qqq"
MOST_CHARACTERS = 1 << 17
Clock = Callable[[], datetime]


class DateMissing(UsageError):
    """A template asks for the date, and none was given."""

    def __init__(self) -> None:
        super().__init__(
            "the chat template asks for the date", "give one, such as --date 2026-01-31"
        )


@dataclass(frozen=True)
class View:
    """A conversation as a template sees it: plain JSON."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def up_to(self, count: int) -> View:
        """Return the conversation as it was after so many messages."""
        return replace(self, messages=self.messages[:count])


class ChatTemplate:
    """One template with the special tokens of its tokenizer, and a clock if it may have one.

    `strings` are its names for special tokens, `marks` are all special tokens. DataError for one
    that is far longer than any that was released.
    """

    def __init__(
        self,
        source: str,
        strings: Mapping[str, str],
        marks: frozenset[str],
        clock: Clock | None = None,
    ) -> None:
        if len(source) > MOST_CHARACTERS:
            raise DataError(f"the chat template has {len(source):,} characters, too many to read")
        self.source, self.strings, self.marks, self.clock = source, strings, marks, clock

    def view(self, dialogue: Dialogue) -> View:
        """Return a conversation as this template is to see it."""
        messages = [self.seen(message) for message in dialogue.messages]
        tools = None if dialogue.tools is None else [dict(tool) for tool in dialogue.tools]
        return View(messages, tools, dialogue.variables)

    def seen(self, message: Message) -> dict[str, Any]:
        """Return a message as transformers shows it, its parts as one text if need be."""
        facts = message.facts
        if isinstance(facts["content"], list) and not self.takes_parts:
            facts["content"] = message.content
        if message.fields is not None and "content" not in message.fields:
            del facts["content"]
        thoughts = message.reasoning
        if thoughts is None:
            return facts
        return {"thinking": thoughts, **facts, REASONING[0]: thoughts}

    def render(self, view: View, is_prompt: bool) -> str:
        """Return the text of a conversation, where the assistant is to go on if it `is_prompt`.

        Raises DataError where the template fails, DateMissing where it lacks the date.
        """
        names = {
            **self.strings,
            "tools": view.tools,
            "documents": None,
            **view.variables,
        }
        names |= {"messages": view.messages, "add_generation_prompt": is_prompt}
        try:
            return render(self.source, names, self.clock and self.clock())
        except DateAsked:
            raise DateMissing from None

    @cached_property
    def kept(self) -> re.Pattern[str]:
        """Match what it may look for in a message, as far as that is no part of a mark."""
        return pattern_of(kept_strings(self._literals[0], self.marks))

    @cached_property
    def leaves_open(self) -> bool:
        """Whether it prints the beginning of a mark that what follows may complete."""
        constants, printed = self._literals
        return begins_mark(constants | printed, self.marks)

    @cached_property
    def _literals(self) -> tuple[frozenset[str], frozenset[str]]:
        try:
            return literals_of(self.source)
        except (TemplateError, RecursionError, ValueError) as error:
            raise DataError(f"the chat template fails: {error}") from None

    @cached_property
    def takes_parts(self) -> bool:
        """Whether it knows a content that is a list of parts; others are given one text."""
        parts = [{"type": "text", "text": PROBE}]
        printed = self.attempt([{"role": USER, "content": parts}])
        return printed is not None and PROBE in printed and "'type'" not in printed

    @cached_property
    def generation_prompt(self) -> str:
        """What it prints where the assistant is to go on, behind what it prints in any case."""
        asked = [{"role": USER, "content": PROBE}]
        told, wanted = self.attempt(asked, is_prompt=False), self.attempt(asked)
        if told is None or wanted is None or not wanted.startswith(told):
            return ""
        return wanted[len(told) :]

    @cached_property
    def trailing_prompt(self) -> str:
        """The generation prompt of a template that prints it in any case, else nothing.

        It begins behind the first mark after an answer, or where a further turn differs.
        """
        asked = [{"role": USER, "content": PROBE}]
        answered = [*asked, {"role": ASSISTANT, "content": PROBE}]
        told, once = self.attempt(asked, is_prompt=False), self.attempt(answered, is_prompt=False)
        twice = self.attempt([*answered, *asked], is_prompt=False)
        if told is None or once is None or twice is None or told != self.attempt(asked):
            return ""
        if twice.startswith(once.rstrip()):
            return ""
        shared = common_length(once, twice)
        mark = pattern_of(self.marks).search(once, once.rfind(PROBE) + len(PROBE))
        begin = mark.end() if mark and mark.end() <= shared else shared
        prompt = once[begin:].lstrip()
        return prompt if told.endswith(prompt) else once[shared:]

    def attempt(self, messages: list[dict[str, Any]], is_prompt: bool = True) -> str | None:
        """Render plain messages; None where the template fails."""
        try:
            return self.render(View(messages), is_prompt)
        except DataError:
            return None


def fold_system(view: View) -> View:
    """Put the system text in front of the message that follows it."""
    system, first, *rest = view.messages
    folded = {**first, "content": f"{system['content']}\n\n{first.get('content') or ''}"}
    return replace(view, messages=[folded, *rest])


def can_fold(view: View) -> bool:
    """Tell whether a conversation begins with a system text that another message can take."""
    if len(view.messages) < 2 or view.messages[0]["role"] != SYSTEM:
        return False
    return all(isinstance(each.get("content"), str) for each in view.messages[:2])


def common_length(left: str, right: str) -> int:
    """Return how many characters two texts have in common from their beginning."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
