"""What is to be written: the options' one request, or those of JSON Lines as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from illada_cli.generate.options import GenerateOptions
from illada_cli.jsonl import JsonLines, read_text
from illada_cli.ui import Talk
from illada_core.errors import UsageError
from illada_core.inference.requests import Request, read_request
from illada_core.text.messages import Dialogue, Message


@dataclass(frozen=True)
class Requests:
    """Requests as they come, None whenever the next is not there yet; `lines` is their file."""

    arriving: Iterator[Request | None]
    lines: JsonLines[Request] | None = None

    @property
    def are_known(self) -> bool:
        """Whether all have come already: what is wrong with one can be told before any work."""
        return self.lines is None or self.lines.source != "-"


def read_input(asked: GenerateOptions, talk: Talk) -> Requests:
    """Return what the options ask for; a file is read at once. Raises UsageError."""
    check_input(asked)
    if asked.jsonl:
        lines = JsonLines(asked.jsonl, read_request, asked.on_error, talk)
        arriving = lines.arriving()
        return Requests(arriving if lines.source == "-" else iter(list(arriving)), lines)
    return Requests(iter([single_request(asked)]))


def check_input(asked: GenerateOptions) -> None:
    """Raise UsageError unless the options name one input; say where a terminal is read."""
    named = {
        "PROMPT": asked.prompt,
        "--file": asked.file,
        "--jsonl": asked.jsonl,
        "--infill": asked.infill,
    }
    present = [name for name, value in named.items() if value is not None]
    if len(present) > 1:
        raise UsageError(f"{' and '.join(present)} are two inputs", "give one of them")
    if asked.is_chat and (asked.jsonl or asked.infill):
        raise UsageError(
            "--chat is for one prompt", "in JSON Lines a conversation is given as messages"
        )
    from_stdin = "-" in (asked.prompt, asked.file, asked.jsonl) or not present
    if from_stdin and sys.stdin.isatty():
        print("reading from the terminal; end with Ctrl-D", file=sys.stderr)


def single_request(asked: GenerateOptions) -> Request:
    """Return the request that the options hold. Raises UsageError for an empty prompt."""
    if asked.infill is not None:
        return Request("infill", asked.infill)
    text = read_text(asked.prompt, asked.file)
    if not text:
        raise UsageError("the prompt is empty")
    if not asked.is_chat:
        return Request("prompt", text)
    turns = [Message("system", asked.system)] if asked.system is not None else []
    return Request("messages", Dialogue((*turns, Message("user", text))))
