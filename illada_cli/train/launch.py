"""`--nproc N`: this command line again, in N processes of this machine, with one exit code.

torchrun would do for the processes, but it hides how they ended. The launcher computes nothing and
never imports torch: it starts the ranks, hands each signal on to each of them once, and waits. Rank
0 talks; what another rank says is shown only if that one failed.

Ranks live in sessions of their own, so that a terminal's Ctrl-C reaches them through the launcher
alone. Their standard input is a pipe that the launcher holds: where it ends, they end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from tempfile import TemporaryFile
from types import FrameType
from typing import IO

import typer

from illada_cli.signals import CAUGHT
from illada_core.errors import SIGNAL_EXIT_BASE, IlladaError, LostRankError, UsageError

LAUNCHED = "ILLADA_LAUNCHED"  # tells a process that its standard input is the launcher's pipe
POLL_S = 0.05
STARTED_HINT = "ranks are started by --nproc, or by torchrun"
# How long the others may go on once a rank has ended with an error: rank 0 may still draw curves.
GRACE_S = 30.0
SECOND_SIGNAL_S = 2.0  # how long ranks may take to leave at once


@dataclass(frozen=True, eq=False)
class Rank:
    """One of the processes; `said` is where its words are kept, None for rank 0, which talks."""

    number: int
    process: subprocess.Popen[bytes]
    said: IO[bytes] | None


def is_rank() -> bool:
    """Tell whether this process is one of several ranks already, whoever started it."""
    return "RANK" in os.environ


def check_world(nproc: int | None) -> None:
    """Raise UsageError for ranks that cannot meet, or are another number than was asked for."""
    world, rank = environment_number("WORLD_SIZE", 1), environment_number("RANK", 0)
    environment_number("LOCAL_RANK", 0), environment_number("LOCAL_WORLD_SIZE", world)
    if rank >= world:
        raise UsageError(f"RANK is {rank}, but WORLD_SIZE is {world}", STARTED_HINT)
    absent = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if world > 1 and absent:
        raise UsageError(f"WORLD_SIZE is {world}, but {absent[0]} is not set", STARTED_HINT)
    if nproc is not None and nproc != world:
        raise UsageError(
            f"--nproc {nproc} asks for another number of processes than the {world} that were "
            "started",
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

    if LAUNCHED in os.environ:
        threading.Thread(target=watch, daemon=True).start()


def launch(nproc: int) -> None:
    """Run this command line in `nproc` ranks, and leave as they did.

    Raises typer.Exit with the code of the rank that failed first, if any, and IlladaError if one
    was killed.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    for caught in CAUGHT:
        signal.signal(caught, receive)
    with ExitStack() as stack:
        pipe, held = os.pipe()
        stack.callback(os.close, held)
        environment = shared_environment(nproc)
        ranks = []
        for number in range(nproc):
            said = stack.enter_context(TemporaryFile()) if number else None
            ranks.append(start(number, environment, pipe, said))
        os.close(pipe)
        failed = wait(ranks, received)
        if failed is not None:
            if failed.process.returncode != ranks[0].process.returncode:  # else it is said already
                tell(failed)
            leave(failed, received)


def shared_environment(nproc: int) -> dict[str, str]:
    """Return what torch.distributed reads in every rank; CPU cores are shared out."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    threads = max(1, (os.cpu_count() or 1) // nproc)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(nproc),
        "LOCAL_WORLD_SIZE": str(nproc),
        LAUNCHED: "1",
    }


def start(number: int, environment: dict[str, str], pipe: int, said: IO[bytes] | None) -> Rank:
    """Start one rank. -P: no file of the working folder may stand in for a module."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "illada_cli", *sys.argv[1:]],
        env={**environment, "RANK": str(number), "LOCAL_RANK": str(number)},
        stdin=pipe,
        stdout=said,
        stderr=said,
        start_new_session=True,
    )
    return Rank(number, process, said)


def wait(ranks: Sequence[Rank], received: list[int]) -> Rank | None:
    """Wait for all ranks, handing on signals as they come; return the one that failed, if any.

    It is the first to end with a code of its own: one that only lost another, or is killed because
    it goes on without it, is a consequence.
    """
    handed, failed, deadline = 0, None, inf
    while running := [rank for rank in ranks if rank.process.poll() is None]:
        for number in received[handed:]:
            for rank in running:
                rank.process.send_signal(number)
            handed += 1
            if handed > 1:  # a rank that waits for another in native code does not hear of it
                deadline = min(deadline, time.monotonic() + SECOND_SIGNAL_S)
        failed = failed or first_failed(ranks)
        if any(rank.process.returncode for rank in ranks):
            deadline = min(deadline, time.monotonic() + GRACE_S)
        if time.monotonic() > deadline:
            failed = failed or next((each for each in ranks if each.process.returncode), None)
            for rank in running:
                rank.process.kill()
        time.sleep(POLL_S)
    failed = failed or first_failed(ranks)
    return failed or next((rank for rank in ranks if rank.process.returncode), None)


def first_failed(ranks: Sequence[Rank]) -> Rank | None:
    """Return a rank that has ended with an error of its own, the lowest if several have."""
    fine = (None, 0, LostRankError.code)
    return next((rank for rank in ranks if rank.process.returncode not in fine), None)


def tell(failed: Rank) -> None:
    """Show what a rank said that kept its words to itself until it failed."""
    if failed.said is not None:
        failed.said.seek(0)
        sys.stderr.write(failed.said.read().decode(errors="replace"))


def leave(failed: Rank, received: list[int]) -> None:
    """Exit with the code of a rank. Raises IlladaError if one was killed by somebody else.

    A rank that was still starting dies by the first signal, one that does not answer is killed.
    """
    code = failed.process.returncode
    if code < 0 and received:
        raise typer.Exit(SIGNAL_EXIT_BASE + received[-1])
    if code < 0:
        name = signal.Signals(-code).name
        raise IlladaError(
            f"rank {failed.number} was ended by {name}",
            "run the same command again to go on from the newest checkpoint",
        )
    raise typer.Exit(1 if code == LostRankError.code else code)
