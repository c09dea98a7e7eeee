"""What a run will cost, counted before it starts: parameters, FLOPs, memory, steps, days. No torch.

FLOPs are those of bidirectional attention: every token meets its whole segment, not half of it.
"""

import re
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

from illada_core.errors import UsageError
from illada_core.model.config import ModelConfig, non_embedding_parameter_count, parameter_count
from illada_core.training.recipe.footprint import (
    FP32_BYTES,
    memory_bytes,
    planned_shard,
    trained_count,
)
from illada_core.training.recipe.keys import Recipe
from illada_core.training.recipe.traffic import Forwards, forwards_of, step_traffic

# What a device holds beside tensors: the driver's context and kernels, buffers of collectives, and
# the share of the rest that an allocator cannot use. Estimates.
CONTEXT_BYTES, COMMUNICATION_BYTES, FRAGMENTS = 0.8e9, 1.2e9, 0.05
RECOMPUTES = ("none", "selective", "full")
HERE = "here"  # the kind of device that this machine has


@dataclass(frozen=True)
class DeviceKind:
    """One kind of accelerator: dense bfloat16 peak and memory, from the vendors' data sheets.

    `matrix_flops` and `attention_flops` are rates that large products and attention were measured
    at, where they are known: what no run can be faster than. Those of the table go by its keys.
    """

    peak_flops: float
    memory_bytes: float
    matrix_flops: float = 0.0
    attention_flops: float = 0.0
    name: str = ""


# Sought in this order in the name that the driver reports: "H100 PCIe" must come before "H100".
DEVICE_KINDS = {
    "B200": DeviceKind(2250e12, 180e9),
    # Products: 4,096 x 4,096 and larger, measured on one; attention: FlashAttention 2 on Hopper,
    # forward and backward (flash-attention issue 1051).
    "H200": DeviceKind(989e12, 141e9, 790e12, 340e12),
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
    for name, kind in DEVICE_KINDS.items():
        if re.search(rf"{name}(?!\w)", device_name):
            return replace(kind, name=name)
    return None


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
    """The figures of a run; memory and traffic are those of one device, by component, in bytes.

    A copy of the model lies over `shard` devices. `tokens_per_second` follow from `mfu` and from
    the share of the devices' time that rows fill; `fastest_tokens_per_second` from the rates that
    the kind of device was measured at, 0 where they are not known. `remedy` are keys under which
    the memory is enough, None where it is already, or where nothing was found.
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
    fastest_tokens_per_second: float
    forwards: Forwards
    traffic_bytes: dict[str, float]
    remedy: tuple[str, ...] | None

    @property
    def fits(self) -> bool:
        return sum(self.memory_bytes.values()) <= self.device_memory_bytes

    @property
    def copies(self) -> int:
        return self.devices // self.shard

    @property
    def seconds_per_step(self) -> float:
        return self.tokens_per_step / self.tokens_per_second

    @property
    def checkpoint_bytes(self) -> int:
        """Weights and two moments in float32."""
        return 3 * FP32_BYTES * self.trained_parameters

    @property
    def steps(self) -> int:
        return ceil(self.total_tokens / self.tokens_per_step)

    @property
    def total_flops(self) -> float:
        return self.flops_per_token * self.total_tokens

    @property
    def seconds(self) -> float:
        return self.total_tokens / self.tokens_per_second


def kind_named(name: str) -> DeviceKind:
    """Return a kind of the table, whose names count in any case. Raises UsageError."""
    known = {each.lower(): each for each in DEVICE_KINDS}
    if name.lower() not in known:
        raise UsageError(
            f"recipe: plan.device {name} is not known", f"{HERE}, {', '.join(DEVICE_KINDS)}"
        )
    found = known[name.lower()]
    return replace(DEVICE_KINDS[found], name=found)


def plan_run(
    recipe: Recipe,
    config: ModelConfig,
    total_tokens: int,
    row_tokens: float,
    here: DeviceKind | None = None,
) -> Plan:
    """Count a run whose rows have `row_tokens` tokens on average, on the devices it names.

    `here` is what plan.device means by that name. Raises UsageError.
    """
    if here and recipe.plan.devices > 1:
        raise UsageError("several devices to plan for are of no kind", "--gpu h100, or plan.device")
    kind = here or kind_named(recipe.plan.device)
    objective = recipe.objective
    hidden_share = objective.epsilon + (1 - objective.epsilon) / 2
    pairs = expected_token_pairs(row_tokens, objective.split_probability) / row_tokens
    is_frozen = recipe.lora.rank > 0
    flops = step_flops(config, 1, pairs, hidden_share, is_frozen)
    again = 0.0
    if recipe.run.recompute == "full":
        again = recomputed_flops(config, 1, pairs, hidden_share)
    devices, shard = recipe.plan.devices, planned_shard(recipe)
    forwards = forwards_of(recipe.batch, devices)
    memory = planned_memory(recipe, config, row_tokens, hidden_share)
    flops_per_second = devices * kind.peak_flops * recipe.plan.mfu * forwards.filled
    fastest = 0.0
    if kind.matrix_flops:
        attention = 12 * config.layers * config.heads * config.head_size * pairs
        seconds = attention / kind.attention_flops + (flops + again - attention) / kind.matrix_flops
        fastest = devices * forwards.filled / seconds
    return Plan(
        parameters=parameter_count(config),
        non_embedding_parameters=non_embedding_parameter_count(config),
        flops_per_token=flops,
        recomputed_flops_per_token=again,
        trained_parameters=trained_count(config, recipe.lora),
        memory_bytes=memory,
        shard=shard,
        tokens_per_step=recipe.batch.rows * row_tokens,
        total_tokens=total_tokens,
        device=kind.name,
        devices=devices,
        mfu=recipe.plan.mfu,
        device_memory_bytes=kind.memory_bytes,
        tokens_per_second=flops_per_second / (flops + again),
        fastest_tokens_per_second=fastest,
        forwards=forwards,
        traffic_bytes=step_traffic(recipe, config, devices, shard),
        remedy=find_remedy(recipe, config, row_tokens, hidden_share, kind.memory_bytes),
    )


def planned_memory(
    recipe: Recipe, config: ModelConfig, row_tokens: float, hidden_share: float
) -> dict[str, float]:
    """Return the memory of one device by component, with what an allocator leaves unused."""
    micro_rows = min(
        recipe.batch.micro_rows, forwards_of(recipe.batch, recipe.plan.devices).most_rows
    )
    shard = planned_shard(recipe)
    parts = memory_bytes(recipe, config, micro_rows * row_tokens, hidden_share, shard)
    return {
        **parts,
        "context and buffers": CONTEXT_BYTES + (COMMUNICATION_BYTES if shard > 1 else 0),
        "fragments": FRAGMENTS * sum(parts.values()),
    }


def find_remedy(
    recipe: Recipe, config: ModelConfig, row_tokens: float, hidden_share: float, limit: float
) -> tuple[str, ...] | None:
    """Return what to change of a recipe, as --set takes it, so that a device's memory is enough.

    Recomputing more is tried first, then fewer rows at once, then more devices that share a copy.
    None where nothing has to be changed, or where all of it is not enough.
    """
    devices, shard = recipe.plan.devices, planned_shard(recipe)
    recomputes = RECOMPUTES[RECOMPUTES.index(recipe.run.recompute) :]
    micro_rows = dict.fromkeys((recipe.batch.micro_rows, 1))
    shards = [shard << doubled for doubled in range(devices.bit_length())]
    shards = [held for held in shards if devices % held == 0]
    for held, rows, kind in product(shards, micro_rows, recomputes):
        changed = replace(
            recipe,
            run=replace(recipe.run, recompute=kind),
            batch=replace(recipe.batch, micro_rows=rows),
            parallel=replace(recipe.parallel, shard=held),
        )
        parts = planned_memory(changed, config, row_tokens, hidden_share)
        if sum(parts.values()) <= limit:
            changes = {
                f"run.recompute={kind}": kind != recipe.run.recompute,
                f"batch.micro_rows={rows}": rows != recipe.batch.micro_rows,
                f"parallel.shard={held}": held != shard,
            }
            return tuple(name for name, is_new in changes.items() if is_new) or None
    return None
