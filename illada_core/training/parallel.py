"""The ranks of a run: who they are, on which devices, and what they tell each other.

A process without a rank is the only one, and then nothing here costs anything. All ranks ask the
model equally often (data/batches.py), because each holds a part of it only (sharding.py).
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from illada_core.errors import IlladaError, LostRankError, UsageError

Said = TypeVar("Said")

JOIN_WAIT = timedelta(minutes=10)  # for all ranks to be there
# Before the first step and after the last one: while models are read, compiled and exported.
LONG_WAIT = timedelta(hours=1)
COPY_WAIT = timedelta(hours=12)  # while rank 0 alone brings a checkpoint from its mirror, or there
GLOO_PLACE = re.compile(r"^\[\S*gloo/\S+:\d+\] |\. This is typically .*")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, its device, and how many of them share its machine."""

    rank: int
    world: int
    device: torch.device
    local_world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other ranks, if there are any; `device` is auto, cpu, cuda, cuda:N.

    Raises LostRankError if one of them is gone, whoever in the block waits for it.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    own_device = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    ranks = Ranks(rank, world, own_device, local_world)
    if world == 1:
        yield ranks
        return
    on_gpu = ranks.device.type == "cuda"
    with rely_on_others():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            timeout=JOIN_WAIT,
            device_id=ranks.device if on_gpu else None,
        )
        try:
            yield ranks
        finally:
            dist.destroy_process_group()


@contextmanager
def rely_on_others() -> Iterator[None]:
    """Make a sentence of what torch raises when another rank is gone.

    It may come out of any forward or backward pass of a sharded model, among errors of other kinds.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo has no class for it, but names the file of its own that it comes from.
        if not isinstance(error, dist.DistError) and "gloo/" not in str(error):
            raise
        reason = GLOO_PLACE.sub("", str(error).partition("\n")[0])
        raise LostRankError(f"lost touch with the other ranks: {reason}") from error


def limit_waiting(mesh: DeviceMesh, limit: timedelta) -> None:
    """Let the ranks of a mesh wait for each other at most so long from now on.

    Then they raise LostRankError: of a rank that hangs, nobody else would ever hear.
    """
    groups = [mesh.get_group(name) for name in mesh.mesh_dim_names or ()]
    for group in (dist.group.WORLD, *groups):
        dist.distributed_c10d._set_pg_timeout(limit, group)


def choose_device(wanted: str, local_rank: int) -> torch.device:
    """Return the device of this process. Raises UsageError if it is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UsageError(f"recipe: run.device {wanted!r} is not a device") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("recipe: run.device is cuda, but torch sees no CUDA device here")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise UsageError(
                f"recipe: run.device is {device}, but torch sees {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise UsageError(f"recipe: run.device must be auto, cpu or cuda, not {wanted!r}")
    return device


def sum_over_ranks(ranks: Ranks, *numbers: float) -> tuple[float, ...]:
    """Add up each number over all ranks, in float64, among hosts: no device is waited for."""
    if ranks.world == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(total)
    return tuple(total.tolist())


def max_over_ranks(ranks: Ranks, number: float) -> float:
    """Return the largest of the ranks' numbers, as hosts tell each other."""
    if ranks.world == 1:
        return number
    largest = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.item()


def sum_tensor_over_ranks(ranks: Ranks, tensor: Tensor) -> Tensor:
    """Add up a tensor over all ranks, in place."""
    if ranks.world > 1:
        dist.all_reduce(tensor)
    return tensor


def share_from_main(ranks: Ranks, tensor: Tensor) -> Tensor:
    """Give every rank what rank 0 has, in place, so that all of them decide alike."""
    if ranks.world > 1:
        dist.broadcast(tensor, 0)
    return tensor


def exchange(ranks: Ranks, said: Said) -> list[Said]:
    """Return what each rank says, in their order; all must say something."""
    if ranks.world == 1:
        return [said]
    heard: list[Any] = [None] * ranks.world
    dist.all_gather_object(heard, said)
    return heard


@contextmanager
def failing_alike(ranks: Ranks) -> Iterator[None]:
    """Fail on every rank where one fails, in the same words: none waits for another in vain.

    An IlladaError or OSError of the lowest rank that has one is raised on all.
    """
    failure: Exception | None = None
    try:
        yield
    except (IlladaError, OSError) as error:
        if ranks.world == 1:
            raise
        failure = error
    for heard in exchange(ranks, failure):
        if heard is not None:
            raise heard


def wait_for_all(ranks: Ranks) -> None:
    """Hold every rank until all have come here."""
    if ranks.world > 1:
        dist.barrier()
