"""`--nproc N`: this command line again, in N processes of this machine, with one exit code.

The launcher computes nothing and never imports torch: it starts the ranks, hands each signal on to
each of them once, and waits. Rank 0 talks; what another rank says is shown only if that one failed.
On several machines each has a launcher; a rank's loss is told to the other machines by the ranks.
Why this is not torch's elastic agent: benchmarks/results/launching.md.

Ranks live in sessions of their own, so that a terminal's Ctrl-C reaches them through the launcher
alone. Their standard input is a pipe that the launcher holds: where it ends, they end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from math import inf
from tempfile import TemporaryFile
from types import FrameType
from typing import IO

import typer

from illada_cli.ranks import LAUNCHED, RESTARTS, Machines
from illada_cli.signals import CAUGHT
from illada_cli.ui import Talk
from illada_core.errors import SIGNAL_EXIT_BASE, IlladaError, LostRankError

POLL_S = 0.05
# How long the others may go on once a rank has ended with an error: rank 0 may still draw curves.
GRACE_S = 30.0
LOST_GRACE_S = 10.0  # once all that have ended did so for want of another
SECOND_SIGNAL_S = 2.0  # how long ranks may take to leave at once
RESTARTS_WITHIN_S = 3600.0
RESUME_HINT = "run the same command again to go on"


@dataclass(frozen=True, eq=False)
class Rank:
    """One of the processes; `said` is where its words are kept, None for rank 0, which talks."""

    number: int
    process: subprocess.Popen[bytes]
    said: IO[bytes] | None


@dataclass(frozen=True)
class Failure:
    """The rank by which the others were lost; `is_silent` if it had to be ended for that."""

    rank: Rank
    is_silent: bool

    @property
    def code(self) -> int:
        return self.rank.process.returncode

    @property
    def is_loss(self) -> bool:
        """Whether the same command may well succeed: a rank is gone, here or elsewhere."""
        return self.code < 0 or self.code == LostRankError.code

    @property
    def sentence(self) -> str:
        """Say which rank was lost, and how."""
        where = f"rank {self.rank.number} on {socket.gethostname()}"
        if self.is_silent:
            return f"{where} did not answer, and was ended"
        if self.code == LostRankError.code:
            return f"{where} lost touch with other ranks"
        return f"{where} was ended by {signal.Signals(-self.code).name}"


def launch(nproc: int, machines: Machines, restarts: int, talk: Talk) -> None:
    """Run this command line in `nproc` ranks of this machine, and leave as they did.

    They are started again where a rank was lost, at most `restarts` times an hour.

    Raises typer.Exit with the code of the rank that failed first, if any, and IlladaError if one
    was lost.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)

    for caught in CAUGHT:
        signal.signal(caught, receive)
    lost_at: deque[float] = deque(maxlen=restarts)
    for start in count():
        failure = run_ranks(nproc, machines, start, received)
        if failure is None:
            return
        now = time.monotonic()
        is_often = len(lost_at) == restarts and now - min(lost_at, default=now) < RESTARTS_WITHIN_S
        if received or not failure.is_loss or is_often:
            leave(failure, received)
        lost_at.append(now)
        talk.warn(f"{failure.sentence}: starting again from the newest checkpoint", again=True)


def run_ranks(nproc: int, machines: Machines, start: int, received: list[int]) -> Failure | None:
    """Start the ranks of this machine and wait for them; return which of them failed, if any."""
    with ExitStack() as stack:
        pipe, held = os.pipe()
        stack.callback(os.close, held)
        environment = shared_environment(nproc, machines, start)
        ranks = []
        for local in range(nproc):
            number = machines.number * nproc + local
            said = stack.enter_context(TemporaryFile()) if number else None
            ranks.append(start_rank(number, local, environment, pipe, said))
        os.close(pipe)
        failure = wait(ranks, received)
        talks = ranks[0] if ranks[0].said is None else None
        if failure and not (talks and failure.code == talks.process.returncode):
            tell(failure.rank)  # else it is said already
        return failure


def shared_environment(nproc: int, machines: Machines, start: int) -> dict[str, str]:
    """Return what torch.distributed reads in every rank; CPU cores are shared out."""
    threads = max(1, (os.cpu_count() or 1) // nproc)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "MASTER_ADDR": machines.host,
        "MASTER_PORT": str(machines.meeting_port(start)),
        "WORLD_SIZE": str(machines.count * nproc),
        "LOCAL_WORLD_SIZE": str(nproc),
        LAUNCHED: "1",
        RESTARTS: str(start),
    }


def start_rank(
    number: int, local: int, environment: dict[str, str], pipe: int, said: IO[bytes] | None
) -> Rank:
    """Start one rank. -P: no file of the working folder may stand in for a module."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "illada_cli", *sys.argv[1:]],
        env={**environment, "RANK": str(number), "LOCAL_RANK": str(local)},
        stdin=pipe,
        stdout=said,
        stderr=said,
        start_new_session=True,
    )
    return Rank(number, process, said)


def wait(ranks: Sequence[Rank], received: list[int]) -> Failure | None:
    """Wait for all ranks, handing on signals as they come; return the one that failed, if any.

    It is the first to end with a code of its own: one that only lost another, or is killed because
    it goes on without it, is a consequence. If all have lost another but some that do not answer,
    it is one of those.
    """
    handed, failed, deadline = 0, None, inf
    silent: list[Rank] = []
    while running := [rank for rank in ranks if rank.process.poll() is None]:
        for number in received[handed:]:
            for rank in running:
                rank.process.send_signal(number)
            handed += 1
            if handed > 1:  # a rank that waits for another in native code does not hear of it
                deadline = min(deadline, time.monotonic() + SECOND_SIGNAL_S)
        failed = failed or first_failed(ranks)
        if any(rank.process.returncode for rank in ranks):
            grace = GRACE_S if failed else LOST_GRACE_S
            deadline = min(deadline, time.monotonic() + grace)
        if time.monotonic() > deadline:
            silent = silent or running
            for rank in running:
                rank.process.kill()
        time.sleep(POLL_S)
    if failed is None and silent:
        return Failure(silent[0], is_silent=True)
    failed = failed or first_failed(ranks)
    failed = failed or next((rank for rank in ranks if rank.process.returncode), None)
    return None if failed is None else Failure(failed, is_silent=False)


def first_failed(ranks: Sequence[Rank]) -> Rank | None:
    """Return a rank that has ended with an error of its own, the lowest if several have."""
    fine = (None, 0, LostRankError.code)
    return next((rank for rank in ranks if rank.process.returncode not in fine), None)


def tell(failed: Rank) -> None:
    """Show what a rank said that kept its words to itself until it failed."""
    if failed.said is not None:
        failed.said.seek(0)
        if words := failed.said.read().decode(errors="replace"):
            sys.stderr.write(f"illada: rank {failed.number} on {socket.gethostname()}:\n{words}")


def leave(failure: Failure, received: list[int]) -> None:
    """Exit with the code of a rank. Raises IlladaError if one was lost.

    A rank that was still starting dies by the first signal, one that does not answer is killed.
    """
    if failure.code < 0 and received:
        raise typer.Exit(SIGNAL_EXIT_BASE + received[-1])
    if failure.is_loss:
        raise IlladaError(failure.sentence, RESUME_HINT)
    raise typer.Exit(failure.code)
