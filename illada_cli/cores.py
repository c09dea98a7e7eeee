"""Cores that other processes use too: how long OpenMP's threads spin while they wait for work.

Spinning saves the time of waking up, and takes the core from the thread that is waited for where
there are fewer cores than threads. So the time is bounded, and while our threads have to queue for
cores it is cut to nearly nothing: GNU's OpenMP hardly spins when it has more threads than there
are cores, so a second team of idle threads is enough (benchmarks/results/busy.md). Neither changes
which thread computes what, so all numbers stay bit for bit.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

SPINS = 30_000  # some 0.1 ms
# What a person may have said about it; then that stands.
ASKED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
TASKS = Path("/proc/self/task")
EVERY_S = 0.25
BUSY, CALM = 0.15, 0.05  # seconds that our threads queue for a core, in each second
CALM_TIMES = 8


def share_cores() -> None:
    """Bound the spinning, and watch whether cores are short. Call it before torch is loaded."""
    if any(name in os.environ for name in ASKED):
        return
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    if queued_seconds() is not None:
        threading.Thread(target=watch, daemon=True).start()


def watch() -> None:
    """Hold a second team of threads for as long as ours have to queue for cores."""
    before, moment = queued_seconds(), time.monotonic()
    team: IdleTeam | None = None
    calm = 0
    while True:
        time.sleep(EVERY_S)
        queued, now = queued_seconds(), time.monotonic()
        if queued is None or before is None:
            return
        share = (queued - before) / (now - moment)
        before, moment = queued, now
        calm = calm + 1 if share < CALM else 0
        if team is None and share > BUSY:
            team = IdleTeam()
        elif team is not None and calm >= CALM_TIMES:
            team.end()
            team = None


class IdleTeam:
    """OpenMP threads that do nothing; there are as many as torch uses until `end`."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        threading.Thread(target=self.hold, daemon=True).start()

    def hold(self) -> None:
        import torch  # waits until whoever loads it is done

        torch.ones(1 << 17).sum()  # large enough for all threads
        self.ended.wait()

    def end(self) -> None:
        """Let the threads go."""
        self.ended.set()


def queued_seconds() -> float | None:
    """Return how long our threads waited for a core, all in all; None where nothing tells."""
    total = 0
    try:
        for task in TASKS.iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[1])
            except (FileNotFoundError, ProcessLookupError):
                if not (TASKS.parent / "schedstat").exists():
                    return None  # else the thread has just ended
    except (OSError, ValueError, IndexError):
        return None
    return total / 1e9
