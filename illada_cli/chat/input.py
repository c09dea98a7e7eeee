"""What the user says: lines with editing and history on a terminal, else one line a turn."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROMPT, CONTINUED = "> ", ". "
QUOTES = '"""'
HISTORY_LINES = 1000


def piped_turns() -> Iterator[str]:
    """Return the lines of standard input that are not blank, each a turn."""
    for line in sys.stdin:
        if line.strip():
            yield clean(line.rstrip("\n"))


def typed_turns() -> Iterator[str]:
    """Return what is typed at the prompt until Ctrl-D; a turn may have several lines.

    A line that ends in a backslash goes on in the next; so do all after one that begins with
    three double quotes, until three more.
    """
    while True:
        try:
            text = read_turn()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            raise
        if text.strip():
            yield text


def read_turn() -> str:
    """Read one turn from the terminal. Raises EOFError for Ctrl-D at its first line."""
    lines = [input(PROMPT)]
    try:
        if lines[0].startswith(QUOTES):
            lines[0] = lines[0].removeprefix(QUOTES)
            while not lines[-1].endswith(QUOTES):
                lines.append(input(CONTINUED))
            lines[-1] = lines[-1].removesuffix(QUOTES)
        else:
            while lines[-1].endswith("\\"):
                lines[-1] = lines[-1].removesuffix("\\")
                lines.append(input(CONTINUED))
    except EOFError:
        print()
    return clean("\n".join(lines))


def clean(text: str) -> str:
    """Replace what was not UTF-8."""
    return text.encode(errors="replace").decode()


@contextmanager
def line_editing(commands: Sequence[str]) -> Iterator[None]:
    """Edit lines as the shell does, complete commands at Tab, and keep history between runs."""
    try:
        import readline
    except ImportError:  # Pythons built without it still read lines
        yield
        return

    def complete(text: str, state: int) -> str | None:
        found = [command for command in commands if text and command.startswith(text)]
        return found[state] if state < len(found) else None

    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.set_completer_delims(" \n")
    readline.set_completer(complete)
    readline.set_history_length(HISTORY_LINES)
    path = history_path()
    # No history file is no reason not to talk: a first run, or a home that cannot be written.
    try:
        readline.read_history_file(path)
    except OSError:
        readline.clear_history()
    try:
        yield
    finally:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
        except OSError as error:
            print(f"illada: warning: the history was not kept: {error}", file=sys.stderr)


def history_path() -> Path:
    """Return where the freedesktop rules put a program's history."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "illada" / "chat_history"
