"""What a person asks to be scored: a prompt and its choices, as text or as ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

from illada_cli.generate.requests import check_characters, check_range, checked_ids, read_text
from illada_cli.jsonl import JsonLines, OnError
from illada_cli.ui import Talk
from illada_core.errors import DataError, UsageError
from illada_core.inference.checkpoint import Checkpoint, fit_prompt

if TYPE_CHECKING:
    from illada_core.evaluation.scoring import Item
    from illada_core.text.chat_template import Message

Normalize = Literal["sum", "token", "byte"]
PROMPT_NAMES = ("prompt", "query", "messages")
ANSWER_NAMES = ("answer", "gold")


@dataclass(frozen=True)
class Request:
    """A prompt with its choices, both as text or both as ids; `answer` is the right one's place.

    A conversation is a prompt too: the choices are what the assistant may say next.
    """

    prompt: str | tuple[Message, ...] | list[int]
    choices: Sequence[Any]
    answer: int | None = None
    line: int | None = None
    id: Any = None


@dataclass(frozen=True)
class Prepared:
    """A request as ids.

    `text_bytes` are the choices' sizes, None where they are only ids; `cut` counts the prompt
    tokens that had to go.
    """

    request: Request
    item: Item
    text_bytes: tuple[int, ...] | None
    cut: int


@dataclass(frozen=True)
class Preparation:
    """How requests become items; `tail` stands after each choice."""

    checkpoint: Checkpoint
    bos: bool | None
    delimiter: str
    truncate: str | None
    tail: tuple[int, ...]
    normalize: Normalize


@dataclass(frozen=True)
class Items:
    """Items as they come, None whenever the next is not there yet; `total` if it is known.

    `lines` is the file that they are read from, if they are.
    """

    arriving: Iterator[Prepared | None]
    total: int | None
    lines: JsonLines[Prepared] | None = None


def items_source(
    prompt: str | None, choices: list[str] | None, jsonl: str | None, text: str | None
) -> str | None:
    """Return the file of items, or None where the options hold the item or a text is scored.

    Raises UsageError unless exactly one thing is to be scored.
    """
    if [prompt, jsonl, text].count(None) < 2 or (choices and (jsonl or text)):
        raise UsageError("give one of --prompt with --choices, a file of items, and --text")
    if prompt is not None:
        if not choices:
            raise UsageError(
                "--prompt needs --choices", "give each choice: --choices A --choices B"
            )
        return None
    if text is not None:
        return None
    if choices and len(choices) > 1:
        raise UsageError("--choices A --choices B need a --prompt", "--prompt '' is an empty one")
    source = jsonl or (choices[0] if choices else None)
    if source is None:
        raise UsageError("there is nothing to score", "see illada score --help for examples")
    if source != "-" and not Path(source).exists():
        hint = "choices as text need a --prompt" if choices else None
        raise UsageError(f"there is no file {source}", hint)
    return source


def items_of(
    source: str | None,
    prompt: str | None,
    chat: bool,
    choices: Sequence[str],
    how: Preparation,
    on_error: OnError,
    talk: Talk,
) -> Items:
    """Return the items of a file of JSON Lines, or the one that the options hold.

    A file is read at once, so that what is wrong in it is told before any work.
    """
    if source is None:
        from illada_core.text.chat_template import Message

        text = read_text(prompt, None)
        asked = (Message("user", text),) if chat else text
        return Items(iter([prepare(Request(asked, choices), how)]), 1)
    lines = JsonLines(
        source, lambda line, fields: prepare(request_of(line, fields), how), on_error, talk
    )
    if source == "-":
        return Items(lines.arriving(), None, lines)
    known = list(lines.arriving())
    return Items(iter(known), len(known), lines)


def request_of(line: int, fields: dict[str, Any]) -> Request:
    """Read a line of JSON Lines. Raises DataError that says what is missing or wrong."""
    answer = one_of(fields, ANSWER_NAMES)
    if "prompt_ids" in fields or "choices_ids" in fields:
        prompt: Any = checked_ids("prompt_ids", fields.get("prompt_ids"))
        choices = fields.get("choices_ids")
        if isinstance(choices, list):
            choices = [checked_ids("an element of choices_ids", ids) for ids in choices]
    else:
        prompt, choices = prompt_of(fields), fields.get("choices")
        if isinstance(choices, list) and not all(isinstance(text, str) for text in choices):
            raise DataError("choices must be strings")
    if not isinstance(choices, list) or not choices:
        raise DataError("choices (or choices_ids) must be a list of at least one choice")
    return Request(prompt, choices, place_of(answer, choices), line, fields.get("id"))


def prompt_of(fields: dict[str, Any]) -> str | tuple[Message, ...]:
    """Return the prompt of a line, or its conversation. Raises DataError."""
    from illada_core.text.chat_template import parse_messages

    prompt = one_of(fields, PROMPT_NAMES)
    if "messages" in fields:
        return tuple(parse_messages(prompt))
    if not isinstance(prompt, str):
        raise DataError("a line must hold prompt (or query) as a string, messages, or prompt_ids")
    return prompt


def one_of(fields: dict[str, Any], names: Sequence[str]) -> Any:
    """Return the value under one of several names; None if there is none. Two are an error."""
    present = [name for name in names if fields.get(name) is not None]
    if len(present) > 1:
        raise DataError(f"a line must not hold both {' and '.join(present)}")
    return fields[present[0]] if present else None


def place_of(answer: Any, choices: Sequence[Any]) -> int | None:
    """Return which choice an answer means: its place counted from 0, or its very text."""
    if answer is None:
        return None
    if type(answer) is int and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str) and choices.count(answer) == 1:
        return choices.index(answer)
    raise DataError(
        f"the answer {json.dumps(answer)} is none of the {len(choices)} choices",
        "give its place, counted from 0, or its text",
    )


def prepare(request: Request, how: Preparation) -> Prepared:
    """Encode a request and see that it fits the context. Raises DataError or CheckpointError."""
    import numpy as np

    from illada_core.evaluation.scoring import Item

    checkpoint = how.checkpoint
    prompt_ids, choices_ids = encode(request, how)
    context = checkpoint.config.max_length
    for number, ids in enumerate(choices_ids, 1):
        if not ids:
            raise DataError(f"choice {number} tokenizes to nothing after this prompt")
        if len(ids) + len(how.tail) > context:
            raise DataError(
                f"choice {number} is {len(ids):,} tokens long, and the context is {context:,}"
            )
    room = context - len(how.tail) - max(map(len, choices_ids))
    kept = fit_prompt(prompt_ids, room, how.truncate, context)
    text_bytes = byte_counts(request, checkpoint)
    array = np.array(kept, dtype=np.int64)
    item = Item(
        prompt=array,
        choices=tuple(np.array(ids, dtype=np.int64) for ids in choices_ids),
        divisors=divisors(how.normalize, choices_ids, text_bytes),
        noise_key=crc32(array.tobytes()),
    )
    return Prepared(request, item, text_bytes, len(prompt_ids) - len(kept))


def encode(request: Request, how: Preparation) -> tuple[list[int], list[list[int]]]:
    """Return the ids of prompt and choices. Raises DataError for ids that cannot be scored."""
    from illada_core.text.pairs import encode_continuations

    checkpoint = how.checkpoint
    if isinstance(request.prompt, list):
        for ids in (request.prompt, *request.choices):
            check_range(ids, checkpoint)
            if checkpoint.mask_id in ids:
                raise DataError(f"the ids hold the mask id {checkpoint.mask_id}")
        return request.prompt, list(request.choices)
    for number, choice in enumerate(request.choices, 1):
        if not choice:
            raise DataError(f"choice {number} is empty")
    continuations = [how.delimiter + choice for choice in request.choices]
    check_characters([*prompt_texts(request), *continuations])
    tokenizer = checkpoint.needed_tokenizer()
    if isinstance(request.prompt, tuple):
        return checkpoint.encode_chat(request.prompt), [*map(tokenizer.encode, continuations)]
    prompt_ids, choices_ids = encode_continuations(tokenizer.encode, request.prompt, continuations)
    return [*checkpoint.encode_text("", how.bos), *prompt_ids], choices_ids


def prompt_texts(request: Request) -> list[str]:
    """Return the texts that a prompt is made of; none where it is ids."""
    if isinstance(request.prompt, tuple):
        return [message.content for message in request.prompt]
    return [request.prompt] if isinstance(request.prompt, str) else []


def byte_counts(request: Request, checkpoint: Checkpoint) -> tuple[int, ...] | None:
    """Return the UTF-8 sizes of the choices as they were given, or as their ids read."""
    if not isinstance(request.prompt, list):
        return tuple(len(choice.encode()) for choice in request.choices)
    if checkpoint.tokenizer is None:
        return None
    texts = (checkpoint.tokenizer.decode(ids, keep_special=True) for ids in request.choices)
    return tuple(max(1, len(text.encode())) for text in texts)


def divisors(
    normalize: Normalize, choices_ids: Sequence[Sequence[int]], text_bytes: tuple[int, ...] | None
) -> tuple[float, ...]:
    """Return what to divide each choice's sum by before choices are compared."""
    if normalize == "byte":
        if text_bytes is None:
            raise DataError("ids without a tokenizer have no bytes", "use --normalize token or sum")
        return tuple(map(float, text_bytes))
    return tuple(float(len(ids)) if normalize == "token" else 1.0 for ids in choices_ids)
