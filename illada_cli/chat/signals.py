"""Ctrl-C and SIGTERM in a chat: the first stops an answer, the second ends it all."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from illada_core.errors import StoppedBySignal


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for a stop, which the yielded function tells; the second leaves."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM end the chat at once, with its exit code, also while it waits for a line."""

    def end(number: int, frame: FrameType | None) -> None:
        raise StoppedBySignal("the chat was ended by a signal", number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
