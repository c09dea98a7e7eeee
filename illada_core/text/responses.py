"""Where the assistant's answers stand in a rendered conversation.

An answer is what follows the generation prompt of the conversation so far, with the mark that ends
it. Some templates rewrite what was said earlier, for instance without its thoughts: the text is
what they print in the end, and an answer of which they print only a part is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from illada_core.errors import DataError
from illada_core.text.chat_template import ChatTemplate, View, common_length
from illada_core.text.harmless import pattern_of
from illada_core.text.messages import ASSISTANT, REASONING


@dataclass(frozen=True)
class Responses:
    """The character spans of answers by the numbers of their messages; None where there is none.

    `end` is where the last one ends; `is_rewritten` tells that the template rewrote an earlier one.
    """

    spans: dict[int, tuple[int, int] | None]
    end: int
    is_rewritten: bool


@dataclass(frozen=True)
class Telling:
    """A conversation whose last message is an answer, and the text that it became."""

    template: ChatTemplate
    view: View
    whole: str

    def so_far(self, count: int, is_prompt: bool) -> str | None:
        """Return the text after so many messages; None if the template fails."""
        try:
            return self.template.render(self.view.up_to(count), is_prompt)
        except DataError:
            return None

    def trimmed(self, text: str, content: str) -> str:
        """Cut off what a template prints behind an answer for a next turn: white space, a prompt.

        White space that is the answer's own stays.
        """
        trailing = self.template.trailing_prompt
        if trailing and text.endswith(trailing):
            text = text[: -len(trailing)]
        own = text.rfind(content) + len(content) if content and content in text else 0
        return text[: max(len(text.rstrip()), own)]


def find_responses(telling: Telling) -> Responses:
    """Find the answers of a conversation. Raises DataError if the last one cannot be found."""
    messages, whole = telling.view.messages, telling.whole
    last = len(messages) - 1
    spans: dict[int, tuple[int, int] | None] = {}
    is_rewritten = False
    before = 0
    for number, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        content = message.get("content") if isinstance(message.get("content"), str) else ""
        begin = begin_of(telling, number, number == last)
        if number == last:
            stop: int | None = len(telling.trimmed(whole, content or ""))
        else:
            told = telling.so_far(number + 1, is_prompt=False)
            told = None if told is None else telling.trimmed(told, content or "")
            is_rewritten |= told is None or not whole.startswith(told)
            stop = stop_of(telling, told, begin, message)
        is_rewritten |= begin is None
        found = begin is not None and stop is not None and before <= begin < stop
        spans[number] = (begin, stop) if found else None  # type: ignore[assignment]
        before = stop if found and stop is not None else before
    end = spans.get(last)
    if end is None:
        raise DataError("the template leaves out the last response")
    return Responses(spans, end[1], is_rewritten)


def begin_of(telling: Telling, number: int, is_last: bool) -> int | None:
    """Return where an answer begins: behind the generation prompt of what came before it."""
    whole = telling.whole
    asked = telling.so_far(number, is_prompt=True)
    if asked is not None and whole.startswith(asked):
        return len(asked)
    bare = telling.so_far(number, is_prompt=False) if number else ""
    if bare is not None and asked is not None and asked.startswith(bare):
        prompt = asked[len(bare) :]
    else:
        prompt = telling.template.generation_prompt
    if bare and whole.startswith(bare):
        # A prompt that opens more than the template prints of an answer, such as <think>.
        return len(bare) + common_length(prompt, whole[len(bare) :])
    if not prompt or not (is_last or not number):
        return None
    place = whole.rfind(prompt) if is_last else whole.find(prompt)
    return place + len(prompt) if place >= 0 else None


def stop_of(
    telling: Telling, told: str | None, begin: int | None, message: dict[str, object]
) -> int | None:
    """Return where an earlier answer ends, None if not all of it is printed.

    `told` is the conversation as it was when the answer came last. Before the answer's text may
    stand the marks that stood there then; it ends with the mark right behind its text.
    """
    whole, marks = telling.whole, pattern_of(telling.template.marks)
    if told is None or begin is None:
        return None
    if whole.startswith(told):
        return len(told)
    content = str(message.get("content") or "").strip()
    place = whole.find(content, begin) if content else -1
    if place < 0:
        return None
    frame = told[begin : told.rfind(content)]
    between = set(marks.findall(whole[begin:place]))
    thoughts = str(message.get(REASONING[0]) or "").strip()
    if thoughts not in whole[begin:place] or not between <= set(marks.findall(frame)):
        return None
    stop = place + len(content)
    mark = marks.match(whole, stop + len(whole[stop:]) - len(whole[stop:].lstrip()))
    return mark.end() if mark else stop
