"""What a run will cost, counted before it starts: parameters, FLOPs, memory, steps, days. No torch.

FLOPs are those of bidirectional attention: every token meets its whole segment, not half of it.
"""

import re
from dataclasses import dataclass
from math import ceil

from illada_core.errors import UsageError
from illada_core.model.config import ModelConfig, non_embedding_parameter_count, parameter_count
from illada_core.training.recipe.footprint import memory_bytes, planned_shard, trained_count
from illada_core.training.recipe.keys import Recipe


@dataclass(frozen=True)
class DeviceKind:
    """One kind of accelerator: dense bfloat16 peak and memory, from the vendors' data sheets."""

    peak_flops: float
    memory_bytes: float


# Sought in this order in the name that the driver reports: "H100 PCIe" must come before "H100".
DEVICE_KINDS = {
    "B200": DeviceKind(2250e12, 180e9),
    "H200": DeviceKind(989e12, 141e9),
    "H100 PCIe": DeviceKind(756e12, 80e9),
    "H100 NVL": DeviceKind(835e12, 94e9),
    "H100": DeviceKind(989e12, 80e9),
    "H800": DeviceKind(989e12, 80e9),
    "H20": DeviceKind(148e12, 96e9),
    "A100": DeviceKind(312e12, 80e9),
    "A800": DeviceKind(312e12, 80e9),
    "A10G": DeviceKind(70e12, 24e9),
    "L40S": DeviceKind(362e12, 48e9),
    "L4": DeviceKind(121e12, 24e9),
    "RTX 5090": DeviceKind(209e12, 32e9),
    "RTX 4090": DeviceKind(165e12, 24e9),
    "RTX 3090": DeviceKind(71e12, 24e9),
    "MI300X": DeviceKind(1307e12, 192e9),
}


def known_kind(device_name: str) -> DeviceKind | None:
    """Return the kind whose name occurs in `device_name`, not as the beginning of another, or None.

    "L40" is no L4; "GH200" is an H200.
    """
    return next(
        (kind for name, kind in DEVICE_KINDS.items() if re.search(rf"{name}(?!\w)", device_name)),
        None,
    )


def step_flops(
    config: ModelConfig,
    tokens: int,
    token_pairs: float,
    head_rows: float,
    is_frozen: bool = False,
) -> float:
    """Count the FLOPs of forward and backward; adapters on a frozen base count nothing.

    `token_pairs` is the sum of squared segment lengths; `head_rows` are the hidden tokens, the
    only ones that reach the last layer's projections after attention and the LM head.
    """
    attended = config.heads * config.head_size
    attention = 12 * config.layers * attended * token_pairs
    last = (attended + 3 * config.ffn_size) * config.width
    body = (non_embedding_parameter_count(config) - last) * tokens
    passes = 2 if is_frozen else 3  # a frozen matrix needs no gradient of its own
    return 2 * passes * (body + (last + config.vocab_size * config.width) * head_rows) + attention


def recomputed_flops(
    config: ModelConfig, tokens: int, token_pairs: float, head_rows: float
) -> float:
    """Count the FLOPs that `run.recompute = "full"` repeats: those of the layers' forward pass.

    All but the projection down at the end of each layer, whose output no gradient needs.
    """
    attended = config.heads * config.head_size
    down = config.layers * config.ffn_size * config.width
    last = (attended + 2 * config.ffn_size) * config.width
    body = (non_embedding_parameter_count(config) - down - last) * tokens
    return 2 * (body + last * head_rows) + 4 * config.layers * attended * token_pairs


def expected_token_pairs(length: float, split_probability: float) -> float:
    """Return the mean sum of squared segment lengths of a full row; a cut leaves 2/3 of it."""
    return length**2 * (1 - split_probability / 3)


@dataclass(frozen=True)
class Plan:
    """The figures of a run; memory is that of one device, by component, in bytes.

    A copy of the model lies over `shard` devices.
    """

    parameters: int
    non_embedding_parameters: int
    trained_parameters: int
    flops_per_token: float
    recomputed_flops_per_token: float
    memory_bytes: dict[str, float]
    tokens_per_step: float
    total_tokens: int
    device: str
    devices: int
    shard: int
    mfu: float
    device_memory_bytes: float
    tokens_per_second: float

    @property
    def steps(self) -> int:
        return ceil(self.total_tokens / self.tokens_per_step)

    @property
    def total_flops(self) -> float:
        return self.flops_per_token * self.total_tokens

    @property
    def seconds(self) -> float:
        return self.total_tokens / self.tokens_per_second


def plan_run(recipe: Recipe, config: ModelConfig, total_tokens: int, row_tokens: float) -> Plan:
    """Count a run whose rows have `row_tokens` tokens on average. Raises UsageError."""
    kind = DEVICE_KINDS.get(recipe.plan.device)
    if kind is None:
        raise UsageError(
            f"recipe: plan.device {recipe.plan.device} is not known",
            f"known: {', '.join(DEVICE_KINDS)}",
        )
    objective = recipe.objective
    hidden_share = objective.epsilon + (1 - objective.epsilon) / 2
    pairs = expected_token_pairs(row_tokens, objective.split_probability) / row_tokens
    is_frozen = recipe.lora.rank > 0
    flops = step_flops(config, 1, pairs, hidden_share, is_frozen)
    again = 0.0
    if recipe.run.recompute == "full":
        again = recomputed_flops(config, 1, pairs, hidden_share)
    micro_tokens, shard = recipe.batch.micro_rows * row_tokens, planned_shard(recipe)
    return Plan(
        parameters=parameter_count(config),
        non_embedding_parameters=non_embedding_parameter_count(config),
        flops_per_token=flops,
        recomputed_flops_per_token=again,
        trained_parameters=trained_count(config, recipe.lora),
        memory_bytes=memory_bytes(recipe, config, micro_tokens, hidden_share, shard),
        shard=shard,
        tokens_per_step=recipe.batch.rows * row_tokens,
        total_tokens=total_tokens,
        device=recipe.plan.device,
        devices=recipe.plan.devices,
        mfu=recipe.plan.mfu,
        device_memory_bytes=kind.memory_bytes,
        tokens_per_second=recipe.plan.devices * kind.peak_flops * recipe.plan.mfu / (flops + again),
    )
