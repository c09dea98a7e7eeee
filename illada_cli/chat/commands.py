"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from illada_cli.chat.session import Session
from illada_cli.generate.options import COMMIT_RULES, parsed
from illada_cli.generate.sampler import completed
from illada_cli.ui import os_error_sentence
from illada_core.errors import DataError, UsageError

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def obey(session: Session, line: str) -> str:
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
        return COMMANDS[name][1](session, argument.strip())
    except OSError as error:
        raise DataError(os_error_sentence(error)) from None


def tell_help(session: Session, argument: str) -> str:
    width = max(len(usage) for usage, _, _ in COMMANDS.values())
    rows = [f"  {usage.ljust(width)}  {what}" for usage, _, what in COMMANDS.values()]
    return "\n".join(
        [
            *rows,
            'A line that ends in \\ goes on in the next; so do all between two """.',
            "A turn that begins with a slash is written with two slashes.",
            "Ctrl-C stops an answer; at the prompt it leaves, as Ctrl-D does.",
        ]
    )


def set_system(session: Session, argument: str) -> str:
    session.conversation.system = argument or None
    return "the system says nothing now" if not argument else "the system says so from now on"


def reset(session: Session, argument: str) -> str:
    session.conversation.turns.clear()
    session.conversation.file = None
    return "the conversation begins anew"


def save(session: Session, argument: str) -> str:
    path = needed_path(argument, session.conversation.file)
    session.conversation.save(path)
    return f"saved to {path}"


def load(session: Session, argument: str) -> str:
    session.conversation.load(needed_path(argument, None))
    return f"loaded {len(session.conversation.turns)} turns"


def needed_path(argument: str, usual: Path | None) -> Path:
    if not argument and usual is None:
        raise UsageError("name a file")
    return Path(argument).expanduser() if argument or usual is None else usual


def change_setting(session: Session, argument: str) -> str:
    """Change a setting, or list them all."""
    if not argument:
        return "\n".join(f"  {key:20} {shown(value)}" for key, value in session.settings.items())
    name, _, text = argument.partition(" ")
    key = name.replace("-", "_")
    value = parsed(key, text.strip())
    others = dict.fromkeys(COMMIT_RULES) if key in COMMIT_RULES else {}
    changed = completed({**session.settings, **others, key: value}, session.checkpoint)
    session.rules(changed)
    session.settings = changed
    return f"{key} is {shown(changed[key])}"


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(repr, value)) or "none"
    return "none" if value is None else str(value)


def trace(session: Session, argument: str) -> str:
    """Show in which step each token of the last answer was written, or write that to a file."""
    from illada_cli.generate.trace import open_trace

    if session.last is None:
        raise UsageError("there is no answer yet")
    tokenizer = session.checkpoint.needed_tokenizer()
    if argument:
        path = Path(argument).expanduser()
        if path.exists():
            raise UsageError(f"{path} exists already", "give another name")
        with open_trace(path, tokenizer) as file:
            assert file is not None
            for step in session.last.steps:
                file.write(step)
        return f"wrote {len(session.last.steps)} steps to {path}"
    written = {
        position: (token, step.step + 1)
        for step in session.last.steps
        for position, token in zip(step.position_B.tolist(), step.token_B.tolist(), strict=True)
    }
    return "".join(
        tokenizer.piece(token) + str(step).translate(SUBSCRIPTS)
        for _, (token, step) in sorted(written.items())
    )


def tell_statistics(session: Session, argument: str) -> str:
    if session.last is None:
        raise UsageError("there is no answer yet")
    used = session.last.prompt_tokens + len(session.last.ids)
    context = session.checkpoint.config.max_length
    turns = len(session.conversation.turns)
    return f"{session.last.sentence()}; {turns} turns take {used:,} of {context:,} tokens"


def leave(session: Session, argument: str) -> str:
    session.is_over = True
    return ""


COMMANDS: dict[str, tuple[str, Callable[[Session, str], str], str]] = {
    "system": ("/system TEXT", set_system, "what the system says; nothing: no system"),
    "reset": ("/reset", reset, "begin the conversation anew"),
    "save": ("/save FILE", save, "write it as JSON Lines, which illada generate --jsonl takes"),
    "load": ("/load FILE", load, "go on with a saved one"),
    "set": ("/set KEY VALUE", change_setting, "change how answers are written; alone: list"),
    "trace": ("/trace FILE", trace, "write every commit of the last answer; alone: show steps"),
    "stats": ("/stats", tell_statistics, "what the last answer took"),
    "help": ("/help", tell_help, "this list"),
    "quit": ("/quit", leave, "leave"),
}
