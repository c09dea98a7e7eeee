"""The memory of one device in training, by component, counted from shapes alone. No torch.

A model over several devices lies in shards (training/sharding.py): what a device holds whole is
what it computes with at the moment.
"""

from math import gcd

from illada_core.errors import UsageError
from illada_core.model.config import ModelConfig, non_embedding_parameter_count, parameter_count
from illada_core.training.recipe.adapters import adapter_activation_bytes, adapter_count
from illada_core.training.recipe.keys import LoraKeys, Recipe

FP32_BYTES, BF16_BYTES = 4, 2
# At least those of diffusion/loss.py on a GPU, which needs torch; the head learns, or is frozen.
LOSS_CHUNK_ROWS, FROZEN_CHUNK_ROWS = 4096, 1024
MACHINE_DEVICES = 8  # of a planned machine, where the recipe does not say what shares a copy
GATHERED_LAYERS = 2  # the one at work, and the next on its way


def trained_count(config: ModelConfig, lora: LoraKeys) -> int:
    """Count the parameters that learn: all of them, or those of adapters beside a frozen base."""
    return adapter_count(config, lora) if lora.rank else parameter_count(config)


def planned_shard(recipe: Recipe) -> int:
    """Return over how many of the planned devices one copy of the model lies.

    Raises UsageError unless they can be shared out so.
    """
    devices = recipe.plan.devices
    return choose_shard(recipe.parallel.shard, devices, gcd(devices, MACHINE_DEVICES))


def choose_shard(wanted: int, world: int, local_world: int) -> int:
    """Return how many ranks hold one copy: as many as wanted, or those of a machine (0).

    Raises UsageError unless the ranks can be shared out so.
    """
    shard = wanted or gcd(world, local_world)
    if world % shard:
        raise UsageError(
            f"recipe: parallel.shard is {shard}, which does not divide the {world} ranks",
            "0 takes the ranks of a machine",
        )
    return shard


def memory_bytes(
    recipe: Recipe, config: ModelConfig, micro_tokens: float, hidden_share: float, shard: int
) -> dict[str, float]:
    """Estimate the memory of one device while it runs a micro-batch, by component.

    A copy of the model lies over `shard` devices.
    """
    lora, is_frozen = recipe.lora, recipe.lora.rank > 0
    compute_bytes = BF16_BYTES if recipe.run.compute_dtype == "bfloat16" else FP32_BYTES
    parameters = parameter_count(config)
    held = FP32_BYTES * trained_count(config, lora) / shard
    activations = activation_bytes_per_token(config, compute_bytes, lora)
    if recipe.run.recompute != "none":  # what is kept, and all of the layer computed again
        kept = kept_channels(config, recipe.run.recompute == "selective")
        activations = activations / config.layers + config.layers * kept * compute_bytes
    if shard > 1:
        at_work = {"weights gathered": gathered_bytes(config, compute_bytes, is_frozen)}
    else:
        casts = cast_bytes(config, compute_bytes, is_frozen)
        at_work = {"weights cast for the step": casts}
    frozen = {"frozen base": parameters * compute_bytes / shard} if is_frozen else {}
    return {
        **frozen,
        "weights, float32": held,
        "gradients, float32": held,
        "AdamW moments, float32": 2 * held,
        **at_work,
        "activations": micro_tokens * activations,
        "LM head and loss": head_bytes(
            config, micro_tokens * hidden_share, compute_bytes, is_frozen
        ),
    }


def cast_bytes(config: ModelConfig, compute_bytes: int, is_frozen: bool) -> float:
    """Return what a step keeps of weights in the compute dtype, where they are kept in float32."""
    is_cast = not is_frozen and compute_bytes != FP32_BYTES
    return float(parameter_count(config) * compute_bytes) if is_cast else 0.0


def kept_channels(config: ModelConfig, selective: bool) -> int:
    """Return how many channels a recomputed layer keeps of a token: its input, perhaps products."""
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    products = 2 * queries + 2 * keys + 2 * config.ffn_size + 2 * config.width
    return config.width + (products if selective else 0)


def gathered_bytes(config: ModelConfig, compute_bytes: int, is_frozen: bool) -> float:
    """Return what is there whole of a model in shards: layers at work, embedding and head.

    The gradients of a layer are there whole too, and once more in float32 to be summed. Those of
    the head are counted with the loss.
    """
    layer = non_embedding_parameter_count(config) / config.layers
    table = (1 if config.tied else 2) * config.vocab_size * config.width
    layers = GATHERED_LAYERS * layer * compute_bytes
    if is_frozen:
        return layers + table * compute_bytes
    return layers + layer * (compute_bytes + FP32_BYTES) + table * FP32_BYTES


def head_bytes(
    config: ModelConfig, head_rows: float, compute_bytes: int, is_frozen: bool = False
) -> float:
    """Return what the loss holds: logits of a chunk, and the gradients of its two factors."""
    rows = min(head_rows, FROZEN_CHUNK_ROWS if is_frozen else LOSS_CHUNK_ROWS)
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
