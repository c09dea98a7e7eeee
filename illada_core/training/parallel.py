"""Plain data parallelism: every rank holds the model, sees its share of the rows, sums gradients.

A process without a rank is the only one, and then nothing here costs anything. Gradients are
summed, not averaged: the loss is already divided by the global token count, so ranks may hold
different numbers of tokens. All of them ask the model equally often (data/batches.py).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from illada_core.errors import LostRankError, UsageError

BUCKET_BYTES = 1 << 26
# Ranks wait for rank 0 while it writes a checkpoint or draws.
GROUP_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other ranks, if there are any; `device` is auto, cpu, cuda, cuda:N.

    Raises LostRankError, as all that waits for other ranks does, if one of them is gone.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    ranks = Ranks(rank, world, choose_device(device, int(os.environ.get("LOCAL_RANK", "0"))))
    if world == 1:
        yield ranks
        return
    on_gpu = ranks.device.type == "cuda"
    with rely_on_others():
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            timeout=GROUP_TIMEOUT,
            device_id=ranks.device if on_gpu else None,
        )
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


@contextmanager
def rely_on_others() -> Iterator[None]:
    """Make a sentence of what torch raises when another rank is gone; gloo has no class for it."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise LostRankError(f"lost touch with the other ranks: {reason}") from error


def combine(tensor: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
    """Combine a tensor over all ranks, in place."""
    with rely_on_others():
        dist.all_reduce(tensor, op)


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
    """Add up each number over all ranks, in float64."""
    if ranks.world == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64, device=ranks.device)
    combine(total)
    return tuple(total.tolist())


def max_over_ranks(ranks: Ranks, number: float) -> float:
    """Return the largest of the ranks' numbers."""
    if ranks.world == 1:
        return number
    largest = torch.tensor(number, dtype=torch.float64, device=ranks.device)
    combine(largest, dist.ReduceOp.MAX)
    return largest.item()


def sum_tensor_over_ranks(ranks: Ranks, tensor: Tensor) -> Tensor:
    """Add up a tensor over all ranks, in place."""
    if ranks.world > 1:
        combine(tensor)
    return tensor


def share_from_main(ranks: Ranks, tensor: Tensor) -> Tensor:
    """Give every rank what rank 0 has, in place, so that all of them decide alike."""
    if ranks.world > 1:
        with rely_on_others():
            dist.broadcast(tensor, 0)
    return tensor


def sum_gradients(ranks: Ranks, parameters: Iterable[Tensor]) -> None:
    """Add up the gradients of all ranks in place, bucket by bucket."""
    if ranks.world == 1:
        return
    for bucket in buckets(parameters):
        gradients = [gradient_of(parameter) for parameter in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        combine(flat)
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the gradient, made of zeros on a rank whose rows never reached the parameter."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def buckets(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group parameters in order, about BUCKET_BYTES of float32 gradients a group."""
    group: list[Tensor] = []
    for parameter in parameters:
        group.append(parameter)
        if sum(member.numel() * member.element_size() for member in group) >= BUCKET_BYTES:
            yield group
            group = []
    if group:
        yield group


def wait_for_all(ranks: Ranks) -> None:
    """Hold every rank until all have come here."""
    if ranks.world > 1:
        with rely_on_others():
            dist.barrier()
