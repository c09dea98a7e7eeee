"""What the devices of a run send each other in a step, counted from shapes alone. No torch.

Bytes are those that one device sends (and receives) where a collective is a ring: (n - 1) / n of
what is gathered or reduced over n devices, twice that of what is added up. Checked against the
collectives of the real code, by tests/training/test_traffic.py.
"""

from dataclasses import dataclass
from math import ceil

from illada_core.model.config import ModelConfig, non_embedding_parameter_count, parameter_count
from illada_core.training.recipe.footprint import BF16_BYTES, FP32_BYTES
from illada_core.training.recipe.keys import BatchKeys, Recipe


@dataclass(frozen=True)
class Forwards:
    """How the rows of a step lie on the devices: all make as many forwards, with or without rows.

    `most_rows` are those of the devices that have the most; `filled` is the share of the devices'
    time that rows take, if all were as busy as those.
    """

    each: int
    most_rows: int
    filled: float


def forwards_of(batch: BatchKeys, devices: int) -> Forwards:
    """Share out the rows of a step as training does (data/batches.py)."""
    most = ceil(batch.rows / devices)
    return Forwards(ceil(most / batch.micro_rows), most, batch.rows / (devices * most))


def step_traffic(recipe: Recipe, config: ModelConfig, devices: int, shard: int) -> dict[str, float]:
    """Return the bytes that one device sends in a step, by what they are."""
    if devices == 1:
        return {}
    forwards = forwards_of(recipe.batch, devices).each
    is_frozen = recipe.lora.rank > 0
    compute_bytes = BF16_BYTES if recipe.run.compute_dtype == "bfloat16" else FP32_BYTES
    layers = non_embedding_parameter_count(config)
    root = parameter_count(config) - layers
    root_bytes = root * (compute_bytes if is_frozen else FP32_BYTES)
    gathered = 2 * layers * compute_bytes + root_bytes  # for both passes; the root once
    reduced = 0 if is_frozen else (layers + root) * FP32_BYTES
    within, copies = (shard - 1) / shard, devices // shard
    return {
        "weights gathered in a copy": forwards * gathered * within,
        "gradients added up in a copy": forwards * reduced * within,
        "gradients added up over copies": 2 * reduced / shard * (copies - 1) / copies,
    }
