"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from illada_cli.chat.session import Chat
from illada_cli.ui import os_error_sentence, plural
from illada_core.errors import DataError, UsageError
from illada_core.inference.settings import change_settings, parse_setting
from illada_core.inference.trace import open_trace

TRUNCATE = "truncate"
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def obey(chat: Chat, line: str) -> str:
    """Do what a line such as `/set temperature 0.7` says, and return what to tell.

    Raises UsageError for a command that is unknown or makes no sense, DataError for a file that
    the system refuses: a conversation does not end with that.
    """
    name, _, argument = line[1:].strip().partition(" ")
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean /{near[0]}?" if near else "/help lists the commands"
        raise UsageError(f"there is no command /{name}", meant)
    try:
        return COMMANDS[name][1](chat, argument.strip())
    except OSError as error:
        raise DataError(os_error_sentence(error)) from None


def tell_help(chat: Chat, argument: str) -> str:
    width = max(len(usage) for usage, _, _ in COMMANDS.values())
    rows = [f"  {usage.ljust(width)}  {what}" for usage, _, what in COMMANDS.values()]
    return "\n".join(
        [
            *rows,
            'A line that ends in \\ goes on in the next; so do all between two """.',
            "A turn that begins with a slash is written with two slashes.",
            "Ctrl-C stops an answer, clears a line, and leaves when it comes twice; Ctrl-D leaves.",
        ]
    )


def set_system(chat: Chat, argument: str) -> str:
    chat.conversation.system = argument or None
    return "the system says nothing now" if not argument else "the system says so from now on"


def reset(chat: Chat, argument: str) -> str:
    chat.conversation.reset()
    return "the conversation begins anew"


def save(chat: Chat, argument: str) -> str:
    path = needed_path(argument, chat.conversation.file)
    chat.conversation.save(path)
    return f"saved to {path}"


def load(chat: Chat, argument: str) -> str:
    chat.conversation.load(needed_path(argument, chat.autosave))
    return f"loaded {plural(len(chat.conversation.turns), 'turn')}"


def needed_path(argument: str, usual: Path | None) -> Path:
    """Return the file that is named, else the usual one. Raises UsageError without any."""
    if argument:
        return path_of(argument)
    if usual is None:
        raise UsageError("name a file")
    return usual


def path_of(argument: str) -> Path:
    """Return a path as it was typed. Raises UsageError for one that cannot be."""
    if "\0" in argument:
        raise UsageError("a path cannot hold a zero byte")
    try:
        return Path(argument).expanduser()
    except RuntimeError:
        raise UsageError(f"there is no home of {argument.partition('/')[0]}") from None


def answer_again(chat: Chat, argument: str) -> str:
    """Ask for another answer to the last turn, drawn with other random numbers."""
    chat.take_back()
    return "" if chat.settings.temperature else "at temperature 0 the answer stays the same"


def change_setting(chat: Chat, argument: str) -> str:
    """Change a setting, written `KEY VALUE` or `KEY=VALUE`, or list them all."""
    if not argument:
        settings = {**vars(chat.settings), TRUNCATE: chat.prompting.truncate}
        return "\n".join(f"  {name:20} {setting_text(value)}" for name, value in settings.items())
    typed, _, text = re.sub(r"\s*[=\s]\s*", " ", argument, count=1).partition(" ")
    name = typed.replace("-", "_")
    if name == TRUNCATE:
        return set_truncation(chat, text)
    chat.change(change_settings(chat.settings, {name: parse_setting(name, text)}))
    return f"{name} is {setting_text(vars(chat.settings)[name])}"


def set_truncation(chat: Chat, text: str) -> str:
    """Say what is done with a conversation that is too long for the context."""
    if text not in ("left", "none"):
        raise UsageError(f"{TRUNCATE} is left or none, not {text!r}")
    chat.prompting = replace(chat.prompting, truncate="left" if text == "left" else None)
    return f"{TRUNCATE} is {text}"


def setting_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(repr, value)) or "none"
    return "none" if value is None else str(value)


def trace(chat: Chat, argument: str) -> str:
    """Show in which step each token of the last answer was written, or write that to a file."""

    if chat.last is None:
        raise UsageError("there is no answer yet")
    tokenizer = chat.checkpoint.require_tokenizer()
    if argument:
        path = path_of(argument)
        if path.exists():
            raise UsageError(f"{path} exists already", "give another name")
        with open_trace(path, tokenizer) as file:
            assert file is not None
            for step in chat.last.steps:
                file.write(step)
        return f"wrote {plural(len(chat.last.steps), 'step')} to {path}"
    written = {
        position: (token, step.step + 1)
        for step in chat.last.steps
        for position, token in zip(step.position_B.tolist(), step.token_B.tolist(), strict=True)
    }
    return "".join(
        tokenizer.piece(token) + str(step).translate(SUBSCRIPTS)
        for _, (token, step) in sorted(written.items())
    )


def tell_statistics(chat: Chat, argument: str) -> str:
    if chat.last is None:
        raise UsageError("there is no answer yet")
    used = chat.last.prompt_tokens + chat.last.generation.new_tokens
    context = chat.checkpoint.config.max_length
    turns = len(chat.conversation.turns)
    return f"{chat.last.sentence()}; {turns} turns take {used:,} of {context:,} tokens"


def leave(chat: Chat, argument: str) -> str:
    chat.is_over = True
    return ""


COMMANDS: dict[str, tuple[str, Callable[[Chat, str], str], str]] = {
    "system": ("/system TEXT", set_system, "what the system says; nothing: no system"),
    "reset": ("/reset", reset, "begin the conversation anew"),
    "save": ("/save FILE", save, "write it as JSON Lines, which illada generate --jsonl takes"),
    "load": ("/load FILE", load, "go on with a saved one; alone: with what the last chat kept"),
    "regen": ("/regen", answer_again, "answer the last turn again"),
    "set": ("/set KEY VALUE", change_setting, "change how answers are written; alone: list"),
    "trace": ("/trace FILE", trace, "write every commit of the last answer; alone: show steps"),
    "stats": ("/stats", tell_statistics, "what the last answer took"),
    "help": ("/help", tell_help, "this list"),
    "quit": ("/quit", leave, "leave"),
}
