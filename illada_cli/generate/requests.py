"""What a person asks to be written: a prompt, a conversation, ids, or a text with gaps."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from illada_cli.jsonl import JsonLines
from illada_cli.ui import Talk
from illada_core.errors import DataError, UsageError
from illada_core.inference.checkpoint import Checkpoint, fit_prompt

if TYPE_CHECKING:
    from illada_core.inference.canvas import Gap, Task

KINDS = ("prompt", "messages", "prompt_ids", "infill", "infill_ids")
GAP = re.compile(r"\[MASK(?::(\d+))?\]")


@dataclass(frozen=True)
class Request:
    """One thing to write: exactly one of KINDS, and where it came from."""

    kind: str
    value: Any
    line: int | None = None
    id: Any = None

    @property
    def texts(self) -> list[str]:
        """The texts it is made of; none where it is ids."""
        if self.kind == "messages":
            return [message.content for message in self.value]
        return [self.value] if isinstance(self.value, str) else []


@dataclass(frozen=True)
class Prepared:
    """A request as ids; `around` are the texts around the gaps where there are several.

    `cut` counts the ids of the prompt that had to go.
    """

    request: Request
    task: Task
    around: tuple[str, ...] = ()
    cut: int = 0


@dataclass(frozen=True)
class Room:
    """How many new tokens are wanted, and what the context allows."""

    new_tokens: int
    grows: bool
    context: int
    truncate: str | None
    bos: bool | None


def request_of(line: int, fields: dict[str, Any]) -> Request:
    """Read a line of JSON Lines. Raises DataError unless it asks for exactly one thing."""
    from illada_core.text.chat_template import parse_messages

    kinds = [kind for kind in KINDS if kind in fields]
    if len(kinds) != 1:
        found = " and ".join(kinds) if kinds else "none"
        raise DataError(f"a line must hold one of {', '.join(KINDS)}, and this holds {found}")
    kind, value = kinds[0], fields[kinds[0]]
    if kind == "messages":
        value = parse_messages(value)
    elif kind in ("prompt_ids", "infill_ids"):
        value = checked_ids(kind, value)
    elif not isinstance(value, str):
        raise DataError(f"{kind} must be a string")
    if not value:
        raise DataError("the prompt is empty")
    return Request(kind, value, line, fields.get("id"))


def checked_ids(name: str, value: Any) -> list[int]:
    """Check that a value is a list of whole numbers. Raises DataError."""
    if not isinstance(value, list) or any(type(item) is not int for item in value):
        raise DataError(f"{name} must be a list of whole numbers")
    return value


def read_text(prompt: str | None, file: str | None) -> str:
    """Return the prompt from the argument, a file or standard input; one last newline is dropped.

    Raises UsageError for an empty or undecodable one.
    """
    if prompt is not None and prompt != "-":
        return prompt
    source = file or "-"
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode("utf-8").removesuffix("\n")
    except FileNotFoundError:
        raise UsageError(f"there is no file {source}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt is not UTF-8 text (byte {error.start})") from None


def arriving_requests(lines: JsonLines[Request]) -> Iterator[Request | None]:
    """Return the requests of JSON Lines, None for one not there yet; a file is read at once."""
    return lines.arriving() if lines.source == "-" else iter(list(lines.arriving()))


def prepare_all(
    requests: Iterable[Request | None],
    lines: JsonLines[Request] | None,
    checkpoint: Checkpoint,
    room: Room,
    talk: Talk,
) -> Iterator[Prepared | None]:
    """Turn requests into tasks; what cannot be one is refused as a bad line."""
    for request in requests:
        if request is None:
            yield None
            continue
        try:
            prepared = prepare(request, checkpoint, room)
        except DataError as error:
            if lines is None or request.line is None:
                raise
            lines.refuse(request.line, error)
            continue
        if prepared.cut:
            talk.warn("prompts are cut on the left to fit the context")
        if prepared.task.is_continuation and prepared.task.gaps[0].length < room.new_tokens:
            talk.say_once(
                f"the context of {room.context:,} leaves room for fewer than "
                f"{room.new_tokens:,} new tokens"
            )
        yield prepared


def prepare(request: Request, checkpoint: Checkpoint, room: Room) -> Prepared:
    """Turn a request into a task. Raises DataError or CheckpointError where that cannot be."""
    check_characters(request.texts)
    if request.kind == "infill":
        return prepare_infill(request, checkpoint, room)
    if request.kind == "infill_ids":
        return Prepared(request, infill_ids_task(request.value, checkpoint, room))
    if request.kind == "prompt":
        ids = checkpoint.encode_text(request.value, room.bos)
    elif request.kind == "messages":
        ids = checkpoint.encode_chat(request.value)
    else:
        ids = request.value
        check_range(ids, checkpoint)
        if checkpoint.mask_id in ids:
            raise DataError(
                f"prompt_ids holds the mask id {checkpoint.mask_id}",
                "to have masks filled in place give the ids as infill_ids",
            )
    if not ids:
        raise DataError("the prompt is empty: it has no tokens")
    task = continue_in(ids, room)
    return Prepared(request, task, cut=len(ids) - len(task.runs[0]))


def check_characters(texts: Iterable[str]) -> None:
    """Raise DataError for what no tokenizer takes: lone surrogates, undecoded bytes."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise DataError("the text holds bytes or surrogates that are no characters") from None


def continue_in(ids: Sequence[int], room: Room) -> Task:
    """Return the task of continuing a prompt in the room that the context leaves."""
    from illada_core.inference.canvas import continuation

    if not room.grows and room.new_tokens >= room.context:
        raise DataError(
            f"a canvas of {room.new_tokens:,} new tokens leaves no room for a prompt in the "
            f"context of {room.context:,}",
            "give a smaller --max-new-tokens",
        )
    if not room.grows:
        kept = fit_prompt(ids, room.context - room.new_tokens, room.truncate, room.context)
        return continuation(kept, room.new_tokens, grows=False)
    if len(ids) >= room.context:
        # A prompt that must be cut anyway leaves room for what is wanted, within half the context.
        left = min(room.new_tokens, room.context // 2) if room.truncate else 1
        ids = fit_prompt(ids, room.context - left, room.truncate, room.context)
    return continuation(ids, min(room.new_tokens, room.context - len(ids)))


def check_range(ids: Sequence[int], checkpoint: Checkpoint) -> None:
    """Raise DataError for an id that the model does not have."""
    size = checkpoint.config.vocab_size
    wrong = next((number for number in ids if not 0 <= number < size), None)
    if wrong is not None:
        raise DataError(f"id {wrong} is outside the model's {size:,} ids")


def prepare_infill(request: Request, checkpoint: Checkpoint, room: Room) -> Prepared:
    """Cut a text at its [MASK:12] (that many tokens) and [MASK] (as many as it takes) marks."""
    from illada_core.inference.canvas import Gap

    tokenizer = checkpoint.needed_tokenizer()
    parts = GAP.split(request.value)
    around, lengths = parts[::2], parts[1::2]
    if not lengths:
        raise DataError("there is nothing to fill in", "mark gaps as [MASK:12] or [MASK]")
    runs = [checkpoint.encode_text(around[0], room.bos), *map(tokenizer.encode, around[1:])]
    gaps = [Gap(int(n)) if n else Gap(room.new_tokens, grows=True, may_end=True) for n in lengths]
    return Prepared(request, gapped_task(runs, gaps, room), tuple(around))


def infill_ids_task(ids: Sequence[int], checkpoint: Checkpoint, room: Room) -> Task:
    """Make each run of the mask id a gap of that length."""
    from illada_core.inference.canvas import Gap

    check_range(ids, checkpoint)
    runs: list[list[int]] = [[]]
    gaps: list[Gap] = []
    for number in ids:
        if number != checkpoint.mask_id:
            runs[-1].append(number)
        elif gaps and not runs[-1]:
            gaps[-1] = replace(gaps[-1], length=gaps[-1].length + 1)
        else:
            gaps.append(Gap(1))
            runs.append([])
    if not gaps:
        raise DataError(f"infill_ids does not hold the mask id {checkpoint.mask_id}")
    return gapped_task(runs, gaps, room)


def gapped_task(runs: Sequence[Sequence[int]], gaps: Sequence[Gap], room: Room) -> Task:
    """Return the task of filling gaps; those that grow share what the context leaves."""
    from illada_core.inference.canvas import Task

    taken = sum(map(len, runs)) + sum(gap.length for gap in gaps if not gap.grows)
    growing = sum(gap.grows for gap in gaps)
    if taken + growing > room.context:
        raise DataError(
            f"the text with its gaps takes {taken + growing:,} tokens, "
            f"and the context is {room.context:,}"
        )
    share = (room.context - taken) // max(1, growing)
    sized = [replace(gap, length=min(gap.length, share)) if gap.grows else gap for gap in gaps]
    return Task(tuple(map(tuple, runs)), tuple(sized))
