"""What a process knows that is one of several ranks, and where they meet, whoever started it.

A rank that `--nproc` has started ends where its launcher does, and is told which start this is.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from dataclasses import dataclass

from illada_core.errors import UsageError

# From the launcher: that standard input is its pipe, and how often the ranks were started before.
LAUNCHED, RESTARTS = "ILLADA_LAUNCHED", "ILLADA_RESTARTS"
STARTED_HINT = "ranks are started by --nproc, or by torchrun"


@dataclass(frozen=True)
class Machines:
    """How many machines take part, the number of this one, and where rank 0 listens.

    Port 0 is for a machine alone: any that is free.
    """

    count: int = 1
    number: int = 0
    host: str = "127.0.0.1"
    port: int = 0

    def meeting_port(self, start: int) -> int:
        """Return the port for the ranks that are started for the `start`-th time, from 0 on.

        Each start has its own: what is left of the ranks before cannot meet the new ones.
        """
        if self.port:
            return self.port + start
        with socket.socket() as found:
            found.bind((self.host, 0))
            return int(found.getsockname()[1])


def is_rank() -> bool:
    """Tell whether this process is one of several ranks already."""
    return "RANK" in os.environ


def is_launched() -> bool:
    """Tell whether a launcher of illada's own has started this process."""
    return LAUNCHED in os.environ


def is_restarted() -> bool:
    """Tell whether a launcher has started these ranks before, and lost one of them."""
    return environment_number(RESTARTS, 0) > 0


def check_world(nproc: int | None) -> None:
    """Raise UsageError for ranks that cannot meet, or are another number than was asked for.

    `nproc` is that of this machine.
    """
    world, rank = environment_number("WORLD_SIZE", 1), environment_number("RANK", 0)
    environment_number("LOCAL_RANK", 0)
    local_world = environment_number("LOCAL_WORLD_SIZE", world)
    if rank >= world:
        raise UsageError(f"RANK is {rank}, but WORLD_SIZE is {world}", STARTED_HINT)
    absent = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if world > 1 and absent:
        raise UsageError(f"WORLD_SIZE is {world}, but {absent[0]} is not set", STARTED_HINT)
    if nproc is not None and nproc != local_world:
        raise UsageError(
            f"--nproc {nproc} asks for another number of processes than the {local_world} that "
            "were started",
            "give --nproc, or start illada by torchrun, not both",
        )


def environment_number(name: str, default: int) -> int:
    """Return a whole number that a launcher puts into the environment. Raises UsageError."""
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise UsageError(f"{name} is {value!r}, not a whole number", STARTED_HINT)
    return int(value)


def end_with_launcher() -> None:
    """Let this process end when the launcher that started it, if one did, is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    if is_launched():
        threading.Thread(target=watch, daemon=True).start()
