"""Conversations as ids: a jinja2 template gives the frame, the messages give only text.

A template mixes control strings with what people wrote, so the rendered text alone cannot tell
`<|eot_id|>` of the frame from `<|eot_id|>` in a message. Here each message travels through the
template between marks, with the first character of each control string in it replaced: what is a
control string afterwards came from the template, which may still trim or split what it is given.
Frame and messages are then encoded apart, so no token straddles them. No torch.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from illada_core.errors import DataError

ROLES = ("system", "user", "assistant")

# Every turn opens with bos and its role; eos is what an assistant says when it has finished.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ bos_token }}{{ message['role'] }}\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)

WHITE_SPACE = (0x1C, 0x1D, 0x1E, 0x1F, 0x85, 0x2028, 0x2029, *range(0x2000, 0x200B), 0x205F, 0x3000)
PRIVATE_USE = 0xF0000


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered conversation: a control token, or text to be encoded as text.

    `turn` is the number of the message that the text belongs to, None for the template's frame.
    """

    text: str
    control_id: int | None = None
    turn: int | None = None


def parse_messages(value: Any) -> list[Message]:
    """Check a list of {"role", "content"} objects. Raises DataError that says what is wrong."""
    if not isinstance(value, list) or not value:
        raise DataError("messages must be a list of at least one message")
    messages = []
    for number, item in enumerate(value):
        role, content = (
            item.get(k) if isinstance(item, dict) else None for k in ("role", "content")
        )
        if role not in ROLES:
            raise DataError(f"message {number} has the role {role!r}, not {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise DataError(f"message {number} has no text as its content")
        messages.append(Message(role, content))
    return messages


@dataclass(frozen=True)
class Marks:
    """Characters that stand nowhere in a conversation, to follow it through a template.

    `opening` and `closing` are white space, so that a template which trims a message trims them
    too, with the message's own outer white space. From `first` on come private-use characters
    that stay where they are put: one for each message, at its two ends, and `stand_ins` for the
    first characters of control strings.
    """

    opening: str
    closing: str
    first: int
    messages: int
    stand_ins: Mapping[str, str]

    def wrap(self, number: int, text: str, pattern: re.Pattern[str]) -> str:
        """Return a message between its marks, without a control string in it."""
        core = text.strip()
        head, _, tail = text.partition(core) if core else (text, "", "")
        starts = [match.start() for match in re.finditer(f"(?={pattern.pattern})", core)]
        letters = list(core)
        for start in starts:
            letters[start] = self.stand_ins[letters[start]]
        mark = chr(self.first + number)
        return f"{self.opening}{head}{mark}{''.join(letters)}{mark}{tail}{self.closing}"

    def message_pattern(self) -> re.Pattern[str]:
        """Match a message that came through whole; its groups are head, mark, core and tail."""
        marks = f"[{chr(self.first)}-{chr(self.first + self.messages - 1)}]"
        return re.compile(
            rf"(?:{self.opening}(\s*))?({marks})(.*?)\2(?:(\s*){self.closing})?", re.DOTALL
        )

    def unmark(self, text: str) -> str:
        """Return text as it was before it was marked."""
        originals = {stand_in: letter for letter, stand_in in self.stand_ins.items()}
        marks = {chr(self.first + number): "" for number in range(self.messages)}
        table = str.maketrans(originals | marks | {self.opening: "", self.closing: ""})
        return text.translate(table)


def choose_marks(texts: Sequence[str], messages: int, controls: Sequence[str]) -> Marks:
    """Choose marks that none of the texts holds."""
    present = set().union(*texts)
    spaces = [chr(code) for code in WHITE_SPACE if chr(code) not in present]
    if len(spaces) < 2:
        raise DataError("the messages hold every kind of white space, and none is left for marks")
    firsts = sorted({control[0] for control in controls if control})
    needed = messages + len(firsts)
    private = range(PRIVATE_USE, sys.maxunicode - needed, needed)
    free = (code for code in private if present.isdisjoint(map(chr, range(code, code + needed))))
    first = next(free, None)
    if first is None:
        raise DataError(
            "the messages hold private-use characters everywhere, none is left for marks"
        )
    stand_ins = {letter: chr(first + messages + at) for at, letter in enumerate(firsts)}
    return Marks(spaces[0], spaces[1], first, messages, stand_ins)


def render(
    template: str | None,
    messages: Sequence[Message],
    controls: Mapping[str, int],
    special_strings: Mapping[str, str],
    readable: Collection[str] = (),
    add_generation_prompt: bool = True,
    has_clock: bool = True,
) -> list[Piece]:
    """Render a conversation as pieces; no piece of a message is ever a control token.

    `template` None is the built-in plain one. `controls` maps every control string to its id;
    those in `readable` (tags such as </think>) a template may look for in a message. The
    `special_strings` are the template's variables such as bos_token. A template that refuses the
    role `system` gets that text in front of the first user message instead, which is then the
    turn of both. Without `has_clock` a template cannot ask for the date. Raises DataError where the
    template fails.
    """
    source = PLAIN_TEMPLATE if template is None else template
    variables: dict[str, Any] = {"bos_token": "", "eos_token": "", **special_strings}
    variables["add_generation_prompt"] = add_generation_prompt
    try:
        return run(source, messages, controls, readable, variables, has_clock)
    except TemplateError as error:
        if messages[0].role != "system" or len(messages) < 2:
            raise DataError(f"the chat template fails: {error}") from None
    try:
        pieces = run(source, fold_system(messages), controls, readable, variables, has_clock)
    except TemplateError as error:
        raise DataError(f"the chat template fails: {error}") from None
    return [
        piece if piece.turn is None else replace(piece, turn=piece.turn + 1) for piece in pieces
    ]


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """Put the system text in front of the message that follows it."""
    system, first, *rest = messages
    return [Message(first.role, f"{system.content}\n\n{first.content}"), *rest]


def encode(pieces: Sequence[Piece], encode_text: Callable[[str], list[int]]) -> list[int]:
    """Return the ids of pieces; `encode_text` must make ordinary tokens of whatever it is given."""
    ids: list[int] = []
    for piece in pieces:
        ids += encode_text(piece.text) if piece.control_id is None else [piece.control_id]
    return ids


@lru_cache(maxsize=16)
def control_pattern(controls: frozenset[str]) -> re.Pattern[str]:
    """Match the longest control string at the leftmost place, as tokenizers do."""
    longest_first = sorted(filter(None, controls), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def run(
    source: str,
    messages: Sequence[Message],
    controls: Mapping[str, int],
    readable: Collection[str],
    variables: Mapping[str, Any],
    has_clock: bool,
) -> list[Piece]:
    """Run a template over marked messages and cut what comes out into pieces."""
    texts = [source, *(message.content for message in messages)]
    marks = choose_marks(texts, len(messages), list(controls))
    hidden = control_pattern(frozenset(controls).difference(readable))
    marked = [
        {"role": message.role, "content": marks.wrap(number, message.content, hidden)}
        for number, message in enumerate(messages)
    ]
    try:
        rendered = compile_template(source, has_clock).render(messages=marked, **variables)
    except TemplateError:
        raise
    except Exception as error:
        # A template is foreign code: whatever it raises is its failure, not ours.
        raise TemplateError(f"{type(error).__name__}: {error}") from error

    pattern = control_pattern(frozenset(controls))
    pieces: list[Piece] = []
    place = 0
    for match in marks.message_pattern().finditer(rendered):
        pieces += frame_pieces(rendered[place : match.start()], pattern, controls, marks)
        head, mark, core, tail = match.groups(default="")
        text = marks.unmark(head + core + tail)
        if text:
            pieces.append(Piece(text, turn=ord(mark) - marks.first))
        place = match.end()
    return pieces + frame_pieces(rendered[place:], pattern, controls, marks)


def frame_pieces(
    frame: str, pattern: re.Pattern[str], controls: Mapping[str, int], marks: Marks
) -> list[Piece]:
    """Cut the template's own text at its control strings."""
    pieces: list[Piece] = []
    place = 0
    for match in pattern.finditer(frame):
        pieces.append(Piece(marks.unmark(frame[place : match.start()])))
        pieces.append(Piece(match[0], control_id=controls[match[0]]))
        place = match.end()
    pieces.append(Piece(marks.unmark(frame[place:])))
    return [piece for piece in pieces if piece.text]


@lru_cache(maxsize=16)
def compile_template(source: str, has_clock: bool) -> Template:
    """Compile a template: a dataset renders one for each of its examples."""
    return environment(has_clock).from_string(source)


def environment(has_clock: bool) -> ImmutableSandboxedEnvironment:
    """Return the environment that released templates are written for."""
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    sandbox.filters["tojson"] = to_json
    sandbox.globals["raise_exception"] = refuse
    if has_clock:
        sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


def to_json(value: Any, **options: Any) -> str:
    """Write JSON as templates expect it: not escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, **options)


def refuse(reason: str) -> None:
    """Fail as a template asks for."""
    raise TemplateError(reason)
