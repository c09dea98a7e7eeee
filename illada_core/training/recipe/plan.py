"""What a run will cost, counted before it starts: parameters, FLOPs, memory, steps, days. No torch.

FLOPs are those of bidirectional attention: every token meets its whole segment, not half of it.
"""

import re
from dataclasses import dataclass
from math import ceil

from illada_core.errors import UsageError
from illada_core.model.config import ModelConfig, non_embedding_parameter_count, parameter_count
from illada_core.training.recipe.adapters import adapter_activation_bytes, adapter_count
from illada_core.training.recipe.keys import LoraKeys, Recipe

FP32_BYTES, BF16_BYTES = 4, 2
LOSS_CHUNK_ROWS = 1024  # at least that of diffusion/loss.py, which needs torch


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
    """Count the FLOPs that `run.recompute` repeats: those of the layers' forward pass.

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
    """The figures of a run; memory is that of one device, by component, in bytes."""

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
    again = recomputed_flops(config, 1, pairs, hidden_share) if recipe.run.recompute else 0.0
    compute_bytes = BF16_BYTES if recipe.run.compute_dtype == "bfloat16" else FP32_BYTES
    micro_tokens = recipe.batch.micro_rows * row_tokens
    return Plan(
        parameters=parameter_count(config),
        non_embedding_parameters=non_embedding_parameter_count(config),
        flops_per_token=flops,
        recomputed_flops_per_token=again,
        trained_parameters=trained_count(config, recipe.lora),
        memory_bytes=memory_bytes(
            config, recipe.lora, micro_tokens, hidden_share, compute_bytes, recipe.run.recompute
        ),
        tokens_per_step=recipe.batch.rows * row_tokens,
        total_tokens=total_tokens,
        device=recipe.plan.device,
        devices=recipe.plan.devices,
        mfu=recipe.plan.mfu,
        device_memory_bytes=kind.memory_bytes,
        tokens_per_second=recipe.plan.devices * kind.peak_flops * recipe.plan.mfu / (flops + again),
    )


def trained_count(config: ModelConfig, lora: LoraKeys) -> int:
    """Count the parameters that learn: all of them, or those of adapters beside a frozen base."""
    return adapter_count(config, lora) if lora.rank else parameter_count(config)


def memory_bytes(
    config: ModelConfig,
    lora: LoraKeys,
    micro_tokens: float,
    hidden_share: float,
    compute_bytes: int,
    recomputes: bool,
) -> dict[str, float]:
    """Estimate the memory of one data-parallel rank while it runs a micro-batch, by component."""
    parameters, trained, is_frozen = (
        parameter_count(config),
        trained_count(config, lora),
        lora.rank > 0,
    )
    cast = parameters
    activations = activation_bytes_per_token(config, compute_bytes, lora)
    if recomputes:  # what goes into each layer, and all of the one that is computed again
        activations = activations / config.layers + config.layers * config.width * compute_bytes
        body = non_embedding_parameter_count(config)
        cast = body // config.layers + config.vocab_size * config.width
    casts = cast * compute_bytes if compute_bytes < FP32_BYTES and not is_frozen else 0
    frozen = {"frozen base": float(parameters * compute_bytes)} if is_frozen else {}
    return {
        **frozen,
        "weights, float32": FP32_BYTES * trained,
        "gradients, float32": FP32_BYTES * trained,
        "AdamW moments, float32": 2 * FP32_BYTES * trained,
        "weights cast for the step": casts,
        "activations": micro_tokens * activations,
        "LM head and loss": head_bytes(
            config, micro_tokens * hidden_share, compute_bytes, is_frozen
        ),
    }


def head_bytes(
    config: ModelConfig, head_rows: float, compute_bytes: int, is_frozen: bool = False
) -> float:
    """Return what the loss holds: logits of a chunk, and the gradients of its two factors."""
    rows = min(head_rows, LOSS_CHUNK_ROWS)
    table = config.vocab_size * config.width
    logits = rows * config.vocab_size * compute_bytes
    of_table = 0 if is_frozen else table * FP32_BYTES
    return logits + head_rows * config.width * compute_bytes + of_table


def activation_bytes_per_token(config: ModelConfig, compute_bytes: int, lora: LoraKeys) -> float:
    """Return what the layers keep of one token for the backward pass, in bytes.

    Frozen matrices and norms keep none of their inputs, adapters keep theirs in float32.
    """
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    if lora.rank:
        norms = 2 * FP32_BYTES * config.width
        attention = compute_bytes * 2 * (queries + keys)
        ffn = compute_bytes * 3 * config.ffn_size
        return config.layers * (norms + attention + ffn) + adapter_activation_bytes(config, lora)
    norms = 2 * (FP32_BYTES + 2 * compute_bytes) * config.width
    attention = compute_bytes * (4 * queries + 3 * keys)
    ffn = compute_bytes * 4 * config.ffn_size
    return config.layers * (norms + attention + ffn)
