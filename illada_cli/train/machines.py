"""The machines of a run: how many, which of them this is, and where their ranks meet.

As the options say, or Slurm. A run is started by the same command on each machine.
"""

from __future__ import annotations

import os
import re

from illada_cli.ranks import Machines
from illada_cli.train.options import TrainOptions
from illada_core.errors import UsageError

AUTO, ALONE = "auto", "1"
SLURM = ("SLURM_NNODES", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_JOB_NODELIST")
PORT, PORTS = 20_000, 12_000  # Slurm's jobs meet at ports of their own, below those of the system
LARGEST_PORT = 65_535


def find_machines(asked: TrainOptions, nodes: str) -> Machines:
    """Return the machines that the options name: `nodes` as asked for, or as a run was on before.

    Raises UsageError.
    """
    try:
        return named_machines(asked, nodes)
    except UsageError as error:
        if asked.nodes is not None or nodes == ALONE:
            raise
        alone = f"go on with this machine alone: --nodes {ALONE}"
        raise UsageError(
            f"{asked.resume} was last started with --nodes {nodes}: {error.sentence}",
            f"{error.hint}; or {alone}" if error.hint else alone,
        ) from None


def named_machines(asked: TrainOptions, nodes: str) -> Machines:
    """Return as many machines as `nodes` says. Raises UsageError."""
    if nodes == ALONE:
        if asked.node is not None or asked.meet is not None:
            raise UsageError("--node and --meet are for several machines", "say how many: --nodes")
        return Machines()
    if nodes == AUTO:
        return slurm_machines(dict(os.environ))
    if not nodes.isdecimal() or nodes == "0":
        raise UsageError(f"--nodes must be a number of machines or auto, not {nodes!r}")
    count = int(nodes)
    if asked.node is None or asked.meet is None:
        raise UsageError(
            f"--nodes {count} needs --node and --meet",
            f"on machine I of {count}: --node I --meet HOST:PORT, a port of machine 0 that is free",
        )
    if asked.node >= count:
        raise UsageError(f"--node {asked.node} of {count} machines: they are counted from 0")
    host, _, port = asked.meet.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= LARGEST_PORT:
        raise UsageError(f"--meet must be HOST:PORT, not {asked.meet!r}")
    return Machines(count, asked.node, host.strip("[]"), int(port))


def slurm_machines(environment: dict[str, str]) -> Machines:
    """Return the machines of the Slurm job that this process is a task of, one on each machine.

    They meet on the first one, at a port that follows from the job's number. Raises UsageError.
    """
    if missing := [name for name in SLURM if not environment.get(name)]:
        raise UsageError(
            f"--nodes auto asks Slurm, but {missing[0]} is not set",
            "start one task on each machine: srun --ntasks-per-node=1 illada pretrain …",
        )
    nodes, number, job, hosts = (environment[name] for name in SLURM)
    tasks = environment.get("SLURM_NTASKS", nodes)
    if tasks != nodes:
        raise UsageError(
            f"Slurm has started {tasks} tasks on {nodes} machines",
            "one on each starts its own ranks: srun --ntasks-per-node=1",
        )
    return Machines(int(nodes), int(number), first_host(hosts), PORT + int(job) % PORTS)


def first_host(hosts: str) -> str:
    """Return the first name of a list of Slurm's: `gpu[003-007,9],login1` begins with gpu003."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", hosts).partition(",")[0]
