"""Whether a run fits the memory that there is, told before anything is allocated.

An estimate with room on either side: what has ever run is not refused.
"""

import os
from contextlib import suppress
from pathlib import Path

import torch

from illada_core.errors import UsageError
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.footprint import FP32_BYTES, memory_bytes, trained_count
from illada_core.training.setup import Setup

ROOM = 2.0  # by which the estimate of all that lives during a step may be wrong
MICRO_BATCH_BYTES = 256  # of its places in a step
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
HINT = "take a smaller model, fewer batch.micro_rows, lora.rank, or run.recompute = full"


def check_memory(setup: Setup, ranks: Ranks) -> None:
    """Raise UsageError where a rank's share of a run is larger than the memory of its device."""
    needed, memory = least_bytes(setup, ranks.world), device_bytes(ranks.device)
    if needed > memory:
        raise UsageError(
            f"the run needs at least {needed / 1e9:,.1f} GB of memory on each rank, "
            f"and {ranks.device} has {memory / 1e9:,.1f} GB",
            HINT,
        )


def least_bytes(setup: Setup, world: int) -> float:
    """Return what one rank of a run cannot do without, in bytes.

    That is its share of what lives from step to step, and less than all that lives within one.
    """
    recipe, config = setup.recipe, setup.config
    rows = -(-recipe.batch.rows // world)
    micro_rows = min(recipe.batch.micro_rows, rows)
    micro_tokens = micro_rows * setup.row_tokens
    parts = memory_bytes(recipe, config, micro_tokens, recipe.objective.epsilon, shard=1)
    kept = 4 * FP32_BYTES * trained_count(config, recipe.lora) + parts.get("frozen base", 0.0)
    places = rows / micro_rows * MICRO_BATCH_BYTES
    return max(kept / world, (sum(parts.values()) / world + places) / ROOM)


def device_bytes(device: torch.device) -> float:
    """Return the memory of a GPU, or of this machine as far as this process may have it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [float(physical + swap_bytes())]
    for name in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" where there is no limit
            limits.append(float(Path(name).read_text()))
    return min(limits)


def swap_bytes() -> int:
    """Return the size of the swap space, 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("SwapTotal"))
    return 0
