"""What a run is asked to do: frozen dataclasses that mirror a recipe's TOML tables one to one.

Every key carries the words that explain it; the printed recipe and docs/recipes.md come from
them. Reading, changing and writing TOML is files.py; what keys must obey beyond their types is
rules.py. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from illada_core.errors import UsageError
from illada_core.training.recipe.rules import rules


def key(
    default: Any, about: str, may_change: bool = False, formerly: Mapping[bool, str] | None = None
) -> Any:
    """Describe a key: its default, its meaning with unit, and whether a resume may change it.

    `formerly` says what true and false mean, which it once took.
    """
    metadata = {"about": about, "may_change": may_change, "formerly": formerly or {}}
    return field(default=default, metadata=metadata)


def needed(about: str, may_change: bool = False) -> Any:
    """Describe a key that every recipe must give."""
    return field(metadata={"about": about, "may_change": may_change, "formerly": {}})


@dataclass(frozen=True, kw_only=True)
class ModelKeys:
    """The transformer to train: its sizes, or a model to start from that has them.

    Special ids are not here, they come from the tokenizer.
    """

    ckpt: str = key("", "model, checkpoint or run to start from; also --ckpt; empty: fresh weights")
    adapt: bool = key(
        False, "ckpt writes from left to right: give it full attention, and the shift below"
    )
    shift: bool = key(
        False, "a row of logits speaks of the next token; where ckpt is not adapted, as it has it"
    )
    layers: int = key(0, "transformer layers")
    width: int = key(0, "channels of the residual stream")
    heads: int = key(0, "query heads")
    kv_heads: int = key(0, "key/value heads, shared by groups of query heads")
    head_size: int = key(0, "channels of one head; 0: width / heads")
    ffn_size: int = key(0, "hidden channels of the SwiGLU feed-forward")
    vocab_size: int = key(0, "ids; 0: the dataset's, rounded up to a multiple of 128")
    max_length: int = key(0, "longest row in tokens")
    rope_theta: float = key(500_000.0, "base of the rotary angles")
    norm_eps: float = key(1e-6, "added to the mean square in RMSNorm")
    tied: bool = key(True, "embedding and LM head are one matrix")
    initializer_range: float = key(0.0, "std of fresh weights; 0: sqrt(2 / (5 width))")


@dataclass(frozen=True, kw_only=True)
class LoraKeys:
    """Low-rank adapters on a frozen base (extra: lora); without them every weight is trained."""

    rank: int = key(0, "rank of the adapters; 0: none")
    alpha: float = key(0.0, "the adapters' product is scaled by alpha / rank; 0: twice the rank")
    targets: Literal["all", "attention", "ffn"] = key("all", "projections that get an adapter")


@dataclass(frozen=True, kw_only=True)
class DataKeys:
    """Where the packed rows are; a run is bound to their fingerprint, not to their place."""

    path: str = key("", "packed dataset; also --data", may_change=True)
    mixture: tuple[str, ...] = key(
        (),
        'packed datasets instead of path, each as "FOLDER=WEIGHT" among the rows, or '
        '"FOLDER=EPOCHSx"; also --mixture',
        may_change=True,
    )
    holdout: str = key(
        "",
        "packed dataset to validate on; empty: the validation part of path, or of the first of "
        "mixture",
        may_change=True,
    )


@dataclass(frozen=True, kw_only=True)
class ObjectiveKeys:
    """Eq. (1): how tokens are hidden, and how segments are made."""

    masking: Literal["bernoulli", "fixed-count"] = key(
        "bernoulli", "each token by itself, or an exact count per segment"
    )
    ratio: Literal["uniform", "stratified"] = key(
        "uniform", "masking ratios drawn apart, or spread evenly over the global batch"
    )
    epsilon: float = key(1e-3, "least masking ratio")
    weights: Literal["ratio", "cart"] = key(
        "ratio", "a hidden token weighs the inverse of its ratio, or by the visible ones near it"
    )
    cart_p: float = key(0.3, "cart: a visible token at distance d weighs p (1 - p)^(d - 1) / 2")
    split_probability: float = key(0.3, "share of rows cut in two at a random place")
    mask: Literal["all", "response", "turn"] = key(
        "all", "what can be hidden: all tokens, responses, or one response drawn per segment"
    )
    normalize: Literal["tokens", "length"] = key(
        "tokens", "mean over tokens that can be hidden, or over segments, each by its length"
    )


@dataclass(frozen=True, kw_only=True)
class BatchKeys:
    """How many rows make a step, and how many go through the model at once."""

    rows: int = needed("rows of one step, over all ranks and micro-batches", may_change=True)
    micro_rows: int = key(1, "rows of one forward and backward pass", may_change=True)


@dataclass(frozen=True, kw_only=True)
class OptimizerKeys:
    """AdamW in float32; weight decay on every matrix, none on the norms' vectors."""

    peak_lr: float = needed("learning rate after the warm-up")
    weight_decay: float = key(0.1, "decoupled weight decay, times the learning rate")
    beta1: float = key(0.9, "decay of the mean of gradients")
    beta2: float = key(0.95, "decay of the mean of squared gradients")
    epsilon: float = key(1e-8, "added to the root of the mean square")
    clip_norm: float = key(1.0, "largest global gradient norm; 0: no clipping")
    keep_moments: bool = key(
        False, "start with AdamW's moments of model.ckpt too, a run or one of its checkpoints"
    )


@dataclass(frozen=True, kw_only=True)
class ScheduleKeys:
    """Linear warm-up, constant, then a decay; docs/recipes.md tells when the decay starts."""

    warmup_tokens: int = needed("tokens of the linear warm-up")
    final_lr: float = needed("learning rate at the end of the decay")
    anneal_tokens: int = key(
        0,
        "tokens over which an adapted model comes to see what follows a token; 0: sees it at once",
    )
    decay: Literal["cosine", "linear", "none"] = key("cosine", "shape of the decay")
    decay_start_tokens: int = key(
        0, "tokens at which the decay starts; or give decay_share", may_change=True
    )
    decay_share: float = key(0.0, "share of the run's tokens that the decay takes", may_change=True)
    extension: Literal["none", "rewarm", "constant"] = key(
        "none",
        "how a run goes on that is made longer after its decay began: not, by a warm-up from the "
        "rate it has come to, or at that rate",
        may_change=True,
    )
    plateau: bool = key(
        False, "start the decay sooner, when the smoothed loss stops falling", may_change=True
    )
    plateau_window_tokens: int = key(0, "tokens over which the loss is averaged", may_change=True)
    plateau_windows: int = key(
        3, "windows in a row without a new least loss that make a plateau", may_change=True
    )
    plateau_drop: float = key(
        1e-3, "nats per token by which a new least loss must be lower", may_change=True
    )


@dataclass(frozen=True, kw_only=True)
class RunKeys:
    """How long to train, where, and in what arithmetic."""

    total_tokens: int = key(0, "tokens to train on; or give epochs", may_change=True)
    epochs: float = key(0.0, "passes over the dataset", may_change=True)
    seed: int = key(0, "seed of weights, order, splits, ratios and masks")
    compute_dtype: Literal["bfloat16", "float32"] = key(
        "bfloat16", "arithmetic of the model; weights and optimizer are float32"
    )
    float8: bool = key(
        False, "products of the layers in float8 (extra: float8; GPUs from Ada or Hopper on)"
    )
    attention: Literal["auto", "varlen", "flash", "sdpa", "matmul"] = key(
        "auto", "attention backend; auto: the fastest here", may_change=True
    )
    compile: bool = key(False, "compile the layers with torch.compile", may_change=True)
    recompute: Literal["none", "selective", "full"] = key(
        "none",
        "what the backward pass computes again of the layers, to save memory: nothing, all but "
        "products and attention, or all",
        may_change=True,
        formerly={False: "none", True: "full"},
    )
    device: str = key("auto", "auto, cpu, cuda or cuda:N", may_change=True)
    threads: int = key(0, "CPU threads; 0: torch's choice", may_change=True)
    peak_tflops: float = key(
        0.0, "dense peak of one device for MFU; 0: looked up by its name", may_change=True
    )
    max_bad_steps: int = key(
        10, "non-finite steps in a row after which the run ends (code 3)", may_change=True
    )


@dataclass(frozen=True, kw_only=True)
class ParallelKeys:
    """How a model lies over several ranks; one process holds all of it."""

    shard: int = key(
        0, "neighbouring ranks that share one copy; 0: those of a machine", may_change=True
    )
    timeout_s: float = key(
        300.0, "seconds that ranks wait for one of them within a step", may_change=True
    )
    check_health: bool = key(
        True, "measure all ranks before the first step, and name the slow ones", may_change=True
    )


@dataclass(frozen=True, kw_only=True)
class ValidationKeys:
    """The bound on held-out rows, always under the same noise."""

    every_steps: int = key(0, "steps between validations; 0: only at the end", may_change=True)
    rows: int = key(0, "held-out rows to draw; 0: each once", may_change=True)
    least_tokens: int = key(
        32_768, "held-out tokens below which a run warns that the bound is noisy", may_change=True
    )
    sample_every: int = key(
        0,
        "steps between answers to held-out prompts, or held-out rows continued and infilled, in "
        "samples.jsonl; 0: none",
        may_change=True,
    )
    samples: int = key(4, "held-out prompts to answer, or rows to continue", may_change=True)


@dataclass(frozen=True, kw_only=True)
class GenerationKeys:
    """How held-out prompts are answered, and what the exported model takes as its default."""

    block_length: int = key(32, "positions filled together", may_change=True)
    max_new_tokens: int = key(256, "most new tokens of a sample", may_change=True)


@dataclass(frozen=True, kw_only=True)
class CheckpointKeys:
    """When to save, and what to keep."""

    every_steps: int = key(0, "steps between checkpoints; 0: only at the end", may_change=True)
    ephemeral_every_steps: int = key(
        0, "steps between checkpoints of which only the newest is kept; 0: none", may_change=True
    )
    on_error: Literal["stop", "continue"] = key(
        "stop", "what a checkpoint that cannot be written does to the run", may_change=True
    )
    keep_last: int = key(2, "newest checkpoints to keep", may_change=True)
    keep_every_steps: int = key(
        0, "also keep every checkpoint at a multiple of this; 0: none", may_change=True
    )
    mirror: str = key(
        "", "URL that complete checkpoints are copied to and brought back from", may_change=True
    )


@dataclass(frozen=True, kw_only=True)
class LogKeys:
    """What is written beside metrics.jsonl."""

    curves: bool = key(True, "keep curves.png up to date (needs matplotlib)", may_change=True)
    tensorboard: bool = key(False, "write TensorBoard events too", may_change=True)
    tracker: Literal["none", "wandb", "trackio"] = key(
        "none", "send metrics to Weights & Biases or trackio too, where installed", may_change=True
    )


@dataclass(frozen=True, kw_only=True)
class PlanKeys:
    """The hardware that the printed plan is counted for; training does not read it."""

    device: str = key("here", "kind of device, as H100; here: this machine's", may_change=True)
    devices: int = key(1, "number of devices", may_change=True)
    mfu: float = key(0.4, "share of the peak that the plan expects", may_change=True)
    write_gb_per_s: float = key(
        1.0, "GB/s at which a checkpoint is expected to be written", may_change=True
    )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All keys of a run. Raises UsageError where values contradict each other."""

    model: ModelKeys = ModelKeys()
    lora: LoraKeys = LoraKeys()
    data: DataKeys = DataKeys()
    objective: ObjectiveKeys = ObjectiveKeys()
    batch: BatchKeys
    optimizer: OptimizerKeys
    schedule: ScheduleKeys
    run: RunKeys
    parallel: ParallelKeys = ParallelKeys()
    validation: ValidationKeys = ValidationKeys()
    generation: GenerationKeys = GenerationKeys()
    checkpoint: CheckpointKeys = CheckpointKeys()
    log: LogKeys = LogKeys()
    plan: PlanKeys = PlanKeys()

    def __post_init__(self) -> None:
        for broken, sentence in rules(self, flat(self)):
            if broken:
                raise UsageError(f"recipe: {sentence}")


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return every key under its full name, `table.key`, in the order of the recipe."""
    return {
        f"{table.name}.{item.name}": getattr(getattr(recipe, table.name), item.name)
        for table in fields(recipe)
        for item in fields(table.type)  # type: ignore[arg-type]
    }


def length_keys() -> list[str]:
    """Return the names of the keys that decide where the decay lies and the run ends."""
    decay = [item.name for item in fields(ScheduleKeys) if item.metadata["may_change"]]
    decay.remove("extension")
    return ["run.total_tokens", "run.epochs", *(f"schedule.{name}" for name in decay)]


def may_change() -> frozenset[str]:
    """Return the full names of the keys that may differ when a run is resumed."""
    return frozenset(
        f"{table.name}.{item.name}"
        for table in fields(Recipe)
        for item in fields(table.type)  # type: ignore[arg-type]
        if item.metadata["may_change"]
    )
