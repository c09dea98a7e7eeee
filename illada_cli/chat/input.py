"""What the user says: lines with editing and history on a terminal, else one line a turn."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

PROMPT, CONTINUED = "> ", ". "
QUOTES = '"""'
HISTORY_LINES = 1000
LOCAL_MODES = 3  # of what tcgetattr returns


def piped_turns() -> Iterator[str]:
    """Return the lines of standard input that are not blank, each a turn."""
    for line in sys.stdin:
        if line.strip():
            yield clean(line.rstrip("\n"))


def typed_turns() -> Iterator[str]:
    """Return what is typed at the prompt until Ctrl-D; a turn may have several lines.

    A line that ends in a backslash goes on in the next; so do all after one that begins with
    three double quotes, until three more. Ctrl-C drops what was typed; twice on an empty line it
    is raised.
    """
    is_leaving = False
    while True:
        try:
            with telling_interrupted_line():
                text = read_turn()
        except EOFError:
            print()
            return
        except KeyboardInterrupt as interrupt:
            print()
            line = interrupt.args[0] if interrupt.args else ""
            if is_leaving and not line:
                raise
            is_leaving = not line
            if is_leaving:
                print("Ctrl-C again leaves, as Ctrl-D does", file=sys.stderr)
            continue
        is_leaving = False
        if text.strip():
            yield text


@contextmanager
def telling_interrupted_line() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt with what was typed of the line at hand."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        readline = sys.modules.get("readline")
        raise KeyboardInterrupt(readline.get_line_buffer() if readline else "")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def holding_keys() -> Iterator[None]:
    """Show nothing of what is typed for a while: it waits for the next prompt."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    silent = [*before]
    silent[LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


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
    except KeyboardInterrupt:
        print()
        return ""
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
    """Return where the history of lines is kept."""
    return state_folder() / "chat_history"


def autosave_path() -> Path:
    """Return where the last conversation is kept."""
    return state_folder() / "last_chat.jsonl"


def state_folder() -> Path:
    """Return where the freedesktop rules put what a program remembers."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "illada"
