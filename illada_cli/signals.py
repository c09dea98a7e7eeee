"""Signals as a request, not an accident: the first asks for an orderly stop, the second leaves.

The work polls `Stop.requested`; when it has put everything in order the verb calls `Stop.leave`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from illada_core.errors import SIGNAL_EXIT_BASE, StoppedBySignal

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal has asked this command to stop, and which one."""

    def __init__(self, promise: str | None) -> None:
        self.promise = promise
        self.signal_number: int | None = None

    def requested(self) -> bool:
        """Tell whether the work should stop at the next good moment."""
        return self.signal_number is not None

    def number(self) -> int:
        """Return the signal that asked for a stop, 0 if none did."""
        return self.signal_number or 0

    def receive(self, signal_number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            os._exit(SIGNAL_EXIT_BASE + signal_number)
        self.signal_number = signal_number
        if self.promise:
            # Not print(): a signal may arrive while the main code holds the stream's lock.
            bar_ends = "\n" if sys.stderr.isatty() else ""
            line = f"{bar_ends}illada: {self.promise}, again to quit now\n"
            os.write(sys.stderr.fileno(), line.encode())

    def leave(self, sentence: str, hint: str | None = None) -> None:
        """Raise the exit that the signal asked for, if one came; else do nothing."""
        if self.signal_number is not None:
            raise StoppedBySignal(sentence, self.signal_number, hint)


@contextmanager
def stop_on_signals(promise: str | None) -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM for a while; `promise` says what is finished before leaving.

    None is for one of several processes, of which another talks. Once a signal has come they stay
    caught: the command is leaving, and a second one must still leave with its code.
    """
    stop = Stop(promise)
    before = {number: signal.signal(number, stop.receive) for number in CAUGHT}
    try:
        yield stop
    finally:
        if not stop.requested():
            for number, action in before.items():
                signal.signal(number, action)
