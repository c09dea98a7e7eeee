"""Whether all ranks are fit, measured in seconds before weeks depend on it.

Each multiplies matrices and adds up data with the ranks it will do so with: those that share a copy
of the model, and those that hold the same shard of other copies. One bad card or cable slows down
all ranks alike, so that no log shows which it was; here it is named.
"""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from illada_core.training.parallel import Ranks, exchange

MATRICES = "multiplies matrices"
# What ranks do together, by the names of a mesh's dimensions.
TOGETHER = {
    "shard": "adds up data with the ranks of its copy",
    "replicate": "adds up data with the other copies",
}


@dataclass(frozen=True)
class Trial:
    """What a kind of device is asked to do, and what share of the usual rate is too little.

    Ranks on CPUs share cores with others, and are told of only where something is quite wrong.
    """

    size: int
    dtype: torch.dtype
    products: int
    rounds: int
    added_bytes: int
    least_share: float


TRIALS = {
    "cuda": Trial(4096, torch.bfloat16, 50, 20, 256 << 20, 0.9),
    "cpu": Trial(256, torch.float32, 2, 5, 1 << 20, 0.1),
}


@dataclass(frozen=True)
class Found:
    """The rates of one rank, by what it did: in FLOP/s, and in bytes/s of its own data."""

    host: str
    rates: dict[str, float]


def check_health(ranks: Ranks, mesh: DeviceMesh) -> list[str]:
    """Measure all ranks, and name in a sentence each that is slow; all must ask for it."""
    trial = TRIALS[ranks.device.type]
    rates = {MATRICES: matrix_rate(trial, ranks.device)}
    for name in mesh.mesh_dim_names or ():
        rates[TOGETHER[name]] = adding_rate(trial, mesh.get_group(name), ranks.device)
    return slow_ranks(exchange(ranks, Found(socket.gethostname(), rates)), trial.least_share)


def slow_ranks(found: Sequence[Found], least_share: float) -> list[str]:
    """Name the ranks that are slower than a share of the median of all."""
    told = []
    for act in found[0].rates:
        usual = median(each.rates[act] for each in found)
        told += [
            f"rank {rank} on {each.host} {act} at {each.rates[act] / usual:.0%} of the usual rate"
            for rank, each in enumerate(found)
            if each.rates[act] < least_share * usual
        ]
    return told


def matrix_rate(trial: Trial, device: torch.device) -> float:
    """Return the FLOP/s of square products."""
    one = torch.ones(trial.size, trial.size, dtype=trial.dtype, device=device)
    result = torch.empty_like(one)

    def multiply() -> None:
        for _ in range(trial.products):
            torch.mm(one, one, out=result)

    return 2 * trial.size**3 * trial.products / usual_seconds(multiply, trial.rounds, device)


def adding_rate(trial: Trial, group: dist.ProcessGroup, device: torch.device) -> float:
    """Return the bytes/s of adding up over a group."""
    data = torch.zeros(trial.added_bytes // 4, device=device)

    def add_up() -> None:
        dist.all_reduce(data, group=group)

    return trial.added_bytes / usual_seconds(add_up, trial.rounds, device)


def usual_seconds(act: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Return the median time of an act, after a first one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
