"""Conversations in the words of a tokenizer: its special tokens, its chat template or a plain one.

What a model is asked (generate, chat) and what it is trained on (packed examples) come from here,
with the ids of transformers wherever no message spells a special token. What a message spells is
text: the special tokens of the result are those of the template around harmless contents.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from illada_core.errors import DataError
from illada_core.text.chat_template import (
    PLAIN_TEMPLATE,
    ChatTemplate,
    Clock,
    View,
    can_fold,
    fold_system,
)
from illada_core.text.companions import DEFAULT_TEMPLATE
from illada_core.text.harmless import (
    StandIns,
    changed_strings,
    choose_stand_ins,
    pattern_of,
    strings_in,
)
from illada_core.text.messages import ASSISTANT, USER, Dialogue, Message, called_name
from illada_core.text.rendered import Encoding, encoder_of
from illada_core.text.responses import Telling, find_responses
from illada_core.text.special_tokens import name_in
from illada_core.text.tokenizer import Tokenizer

TOOL_TEMPLATE = "tool_use"


@dataclass(frozen=True)
class Printed:
    """A rendered conversation: `text` with stand-ins for what only looks like a mark.

    `restored` is what it says really, `marks` are the special tokens that are meant.
    """

    template: ChatTemplate
    view: View
    text: str
    restored: str
    marks: list[tuple[int, str]]
    is_prompt: bool

    def cut(self, end: int) -> Printed:
        """Return its beginning."""
        marks = [mark for mark in self.marks if mark[0] < end]
        return replace(self, text=self.text[:end], restored=self.restored[:end], marks=marks)


@dataclass(frozen=True)
class Told:
    """A conversation to learn from: its text, and the characters of the answers to be learnt.

    `is_rewritten` tells that an earlier answer is not printed as it was when it came last.
    """

    printed: Printed
    spans: list[tuple[int, int]]
    is_rewritten: bool


class Chats:
    """Conversations of one tokenizer as ids. Threads may share it.

    Without a `clock` a template that asks for the date fails with DateMissing.
    """

    def __init__(self, tokenizer: Tokenizer, clock: Clock | None = None) -> None:
        self.tokenizer = tokenizer
        self.marks = frozenset(filter(None, tokenizer.controls))
        sources = dict(tokenizer.files.chat_templates)
        sources[DEFAULT_TEMPLATE] = template_source(tokenizer)
        is_plain = tokenizer.chat_template is None
        strings = usual_strings(tokenizer) if is_plain else special_strings(tokenizer)
        self.templates = {
            name: ChatTemplate(source, strings, self.marks, clock)
            for name, source in sources.items()
        }

    def template_for(self, dialogue: Dialogue) -> ChatTemplate:
        """Return the template of a conversation: some tokenizers have one for tools."""
        name = TOOL_TEMPLATE if dialogue.tools is not None else DEFAULT_TEMPLATE
        return self.templates.get(name, self.templates[DEFAULT_TEMPLATE])

    def prompt_ids(self, dialogue: Dialogue) -> list[int]:
        """Return the ids of a conversation, up to where the assistant is to speak.

        Raises DataError where the template fails, or leaves out tools and their calls.
        """
        printed = self.print_out(dialogue, is_prompt=True)
        check_calls(dialogue, printed)
        (found,) = self.encode([printed])
        if isinstance(found, DataError):
            raise found
        ids: list[int] = found.ids.tolist()
        return ids

    def tell(self, dialogue: Dialogue) -> Told:
        """Return a conversation that the assistant ends as what is to be learnt.

        It ends with the last answer that is learnt, without what a template prints for a next turn.
        Raises DataError where the template fails or leaves out what is to be learnt.
        """
        printed = self.print_out(dialogue, is_prompt=False)
        check_calls(dialogue, printed)
        telling = Telling(printed.template, printed.view, printed.text)
        found = find_responses(telling)
        folded = len(dialogue.messages) - len(printed.view.messages)
        trained = [
            span
            for number, span in found.spans.items()
            if span and dialogue.messages[number + folded].is_trained
        ]
        if not trained:
            raise DataError("no answer of it is to be learnt")
        self.check_last(dialogue, printed, found.spans)
        return Told(printed.cut(trained[-1][1]), trained, found.is_rewritten)

    def check_last(
        self,
        dialogue: Dialogue,
        printed: Printed,
        spans: Mapping[int, tuple[int, int] | None],
    ) -> None:
        """Raise DataError if the template leaves out the last answer or its thoughts."""
        last = dialogue.messages[-1]
        begin, stop = spans[len(printed.view.messages) - 1] or (0, 0)
        said = printed.restored[begin:stop]
        if last.content.strip() and not pattern_of(self.marks).sub("", said).strip():
            raise DataError("the template leaves out the last response")
        if (last.reasoning or "").strip() not in printed.restored:
            raise DataError("the template leaves out the thoughts of the last response")

    def encode(self, printed: Sequence[Printed]) -> list[Encoding | DataError]:
        """Encode rendered conversations; DataError for one whose marks cannot be kept apart."""
        encoder = encoder_of(self.tokenizer)
        clean = [each for each in printed if each.text == each.restored]
        found = iter(encoder.encode([each.text for each in clean]))
        return [
            self._checked(each, next(found) if each.text == each.restored else None)
            for each in printed
        ]

    def _checked(self, printed: Printed, encoding: Encoding | None) -> Encoding | DataError:
        """Return an encoding whose special tokens are those of the template, by count."""
        encoder = encoder_of(self.tokenizer)
        wanted = encoder.ids_of(printed.marks)
        if encoding is not None:
            if encoder.marks_of(encoding) == wanted:
                return encoding
            # A normalizer is at work: what it makes of the template's own text is meant.
            (harmless,) = encoder.encode([self.harmless(printed)[: len(printed.text)]])
            if encoder.marks_of(encoding) == encoder.marks_of(harmless):
                return encoding
        apart = encoder.encode_apart(printed.text, printed.marks, printed.restored)
        if encoder.marks_of(apart) == wanted:
            return apart
        return DataError("a message spells a special token that cannot be kept apart")

    def print_out(self, dialogue: Dialogue, is_prompt: bool) -> Printed:
        """Render a conversation.

        A template that refuses the role `system` gets that text in front of the next message.
        """
        template = self.template_for(dialogue)
        view = template.view(dialogue)
        try:
            return self.print_view(template, view, is_prompt)
        except DataError:
            if not can_fold(view):
                raise
        return self.print_view(template, fold_system(view), is_prompt)

    def print_view(self, template: ChatTemplate, view: View, is_prompt: bool) -> Printed:
        """Render what a template is to see, and find the marks that are its own."""
        texts = list(strings_in([view.messages, view.tools, dict(view.variables)]))
        spelled = pattern_of(self.marks)
        stand_ins = StandIns({})
        if any(spelled.search(text) for text in texts):
            stand_ins = self.stand_ins(template, texts)
            view = self.changed(view, partial(stand_ins.hide_marks, marks=spelled), stand_ins)
        text = template.render(view, is_prompt)
        encoder = encoder_of(self.tokenizer)
        marks = encoder.marks_in(text)
        if template.leaves_open or any(first in text for first in self._firsts for text in texts):
            # A message may be the beginning of a mark, or go on with one.
            stand_ins = stand_ins if stand_ins.of else self.stand_ins(template, texts)
            hidden = self.hidden(template, view, stand_ins)
            harmless = template.render(hidden, is_prompt)
            own = encoder.marks_in(harmless)
            if [mark for _, mark in own] != [mark for _, mark in marks]:
                view, text, marks = hidden, harmless, own
        return Printed(template, view, text, stand_ins.restore(text), marks, is_prompt)

    def harmless(self, printed: Printed) -> str:
        """Render a conversation again with contents that are no part of any mark."""
        view = printed.view
        texts = list(strings_in([view.messages, view.tools, dict(view.variables)]))
        hidden = self.hidden(printed.template, view, self.stand_ins(printed.template, texts))
        return printed.template.render(hidden, printed.is_prompt)

    def asked(self, told: Told, encoding: Encoding) -> NDArray[np.bool_]:
        """Tell of each token whether it is text of the messages alone, not the template's frame."""
        length = len(told.printed.text)
        harmless = self.harmless(told.printed)[:length]
        if len(harmless) < length:
            return np.zeros(len(encoding.ids), bool)
        is_said = np.array([a != b for a, b in zip(harmless, told.printed.text, strict=True)])
        fill_gaps(is_said, harmless)
        before = np.concatenate([[0], np.cumsum(is_said)])
        said: NDArray[np.bool_] = before[encoding.ends] - before[encoding.starts] == (
            encoding.ends - encoding.starts
        )
        return said & (encoding.ends > encoding.starts)

    def stand_ins(self, template: ChatTemplate, texts: Sequence[str]) -> StandIns:
        """Choose stand-ins for the characters of a conversation."""
        return choose_stand_ins(texts, self.marks, [template.source])

    def hidden(self, template: ChatTemplate, view: View, stand_ins: StandIns) -> View:
        """Return a conversation of which a template sees only white space and what it looks for."""
        return self.changed(view, partial(stand_ins.hide_all, kept=template.kept), stand_ins)

    def changed(self, view: View, change: Any, stand_ins: StandIns) -> View:
        """Return a conversation with other contents."""
        hide = partial(stand_ins.hide_marks, marks=pattern_of(self.marks))
        messages, tools, variables = (
            changed_strings(part, change, hide)
            for part in (view.messages, view.tools, dict(view.variables))
        )
        return View(messages, tools, variables)

    @cached_property
    def _firsts(self) -> frozenset[str]:
        return frozenset(mark[0] for mark in self.marks)


def fill_gaps(is_said: NDArray[np.bool_], text: str) -> None:
    """Take white space between two characters of a message for a part of it."""
    places = np.flatnonzero(is_said)
    for left, right in itertools.pairwise(places):
        if right - left > 1 and text[left + 1 : right].isspace():
            is_said[left:right] = True


def check_calls(dialogue: Dialogue, printed: Printed) -> None:
    """Raise DataError if a template leaves out tools or calls of them."""
    calls = [
        call
        for message in dialogue.messages
        if message.role == ASSISTANT
        for call in message.facts.get("tool_calls") or ()
    ]
    for what, items in (("a call of", calls), ("the description of", dialogue.tools or ())):
        for item in items:
            name = called_name(item)
            if name and name not in printed.restored:
                raise DataError(f"the template leaves out {what} the tool {name!r}")


@lru_cache(maxsize=4)
def chats_of(tokenizer: Tokenizer) -> Chats:
    """Return the conversations of a tokenizer as they are today."""
    return Chats(tokenizer, datetime.now)


def prompt_ids(tokenizer: Tokenizer, dialogue: Dialogue) -> list[int]:
    """Return the ids of a conversation, up to where the assistant is to speak.

    Raises DataError where the template fails.
    """
    return chats_of(tokenizer).prompt_ids(dialogue)


def turn_end_id(tokenizer: Tokenizer) -> int | None:
    """Return the special token that the template puts right behind an answer, if any."""
    chats = chats_of(tokenizer)
    answer = "answer"
    messages = (Message(USER, "question"), Message(ASSISTANT, answer))
    try:
        printed = chats.tell(Dialogue(messages)).printed
    except DataError:
        return None  # a template that cannot be used for chats says nothing of their ends
    place = printed.text.rfind(answer) + len(answer)
    place += len(printed.text[place:]) - len(printed.text[place:].lstrip())
    return next((tokenizer.controls[mark] for at, mark in printed.marks if at == place), None)


def require_date(tokenizer: Tokenizer) -> None:
    """Raise DateMissing if the template asks for the date even of a plain exchange."""
    messages = (Message(USER, "question"), Message(ASSISTANT, "answer"))
    with suppress(DataError):
        Chats(tokenizer).print_out(Dialogue(messages), is_prompt=False)


def template_fingerprint(tokenizer: Tokenizer) -> str:
    """Return the sha256 of the template that conversations are put into."""
    tools = tokenizer.files.chat_templates.get(TOOL_TEMPLATE, "")
    return hashlib.sha256((template_source(tokenizer) + tools).encode()).hexdigest()


def template_source(tokenizer: Tokenizer) -> str:
    """Return the template of a tokenizer, or the plain one."""
    template = tokenizer.chat_template
    return PLAIN_TEMPLATE if template is None else template


def usual_strings(tokenizer: Tokenizer) -> dict[str, str]:
    """Return bos_token, eos_token and so on by their ids, however those are known."""
    names = {number: token for token, number in tokenizer.files.ids.items()}
    return {
        f"{name}_token": names[number]
        for name, number in vars(tokenizer.special).items()
        if number in names
    }


def special_strings(tokenizer: Tokenizer) -> dict[str, str]:
    """Return what templates call bos_token, eos_token and so on: what the files say.

    A name that no file has at all is that of the tokenizer's known token.
    """
    beside = tokenizer.files.beside
    extra = beside.config.get("extra_special_tokens")
    named = {**beside.named, **(extra if isinstance(extra, dict) else {}), **tokenizer.files.config}
    given = {name: text for name in named if (text := name_in(named[name])) is not None}
    usual = usual_strings(tokenizer)
    return given | {name: text for name, text in usual.items() if name not in named}
