"""The shape of a model, without torch: what a recipe or a checkpoint says, and what follows."""

from dataclasses import dataclass, replace
from math import inf, prod, sqrt
from typing import Literal

from illada_core.errors import UsageError

FAMILIES = ("illada", "llada", "dream", "qwen2", "llama", "qwen3")
ATTENTIONS = ("full", "causal")
MOST_LAYERS = 10_000  # their names are listed before anybody has looked at the weights
QKV_BIASES = tuple(f"attention.{name}.bias" for name in ("query", "key", "value"))
QK_NORMS = tuple(f"attention.{name}_norm.weight" for name in ("query", "key"))


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's slower rotation of the long waves, for rows longer than it was first trained on.

    Waves beyond original_length / low turn `factor` times slower, those below original_length /
    high as before, those between by a blend.
    """

    factor: float
    low: float
    high: float
    original_length: int

    def __post_init__(self) -> None:
        if not (0 < self.factor < inf and 0 < self.low < self.high < inf):
            raise UsageError("scaled rotary positions need a factor and 0 < low < high")
        if self.original_length < 1:
            raise UsageError("scaled rotary positions need an original length above 0")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, constants and special ids of one transformer.

    Raises UsageError when the sizes contradict each other. `family` decides the layout on disk
    and the initialisation; `rope_in_float32` whether queries and keys are rotated in float32
    (LLaDA) or in the compute dtype (the others). `attention` is what a token meets, its whole
    segment or what stands before it and itself; under the `shift` a row of logits speaks of the
    token after it, else of its own.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    ffn_size: int
    max_length: int
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-6
    tied: bool = True
    rope_in_float32: bool = False
    family: str = "illada"
    initializer_range: float | None = None
    bos_id: int | None = None
    pad_id: int | None = None
    eos_id: int | None = None
    mask_id: int | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None
    attention: Literal["full", "causal"] = "full"
    shift: bool = False

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "layers", "heads", "kv_heads", "head_size", "ffn_size")
        for name, size in vars(self).items():
            if name in (*sizes, "max_length") and size < 1:
                raise UsageError(f"the model's {name} must be at least 1, not {size}")
            if name.endswith("_id") and size is not None and not 0 <= size < self.vocab_size:
                raise UsageError(f"the model's {name} {size} is outside its {self.vocab_size} ids")
        if self.layers > MOST_LAYERS:
            raise UsageError(f"the model has {self.layers:,} layers, over {MOST_LAYERS:,}")
        if self.heads % self.kv_heads:
            raise UsageError(f"{self.heads} heads cannot share {self.kv_heads} key/value heads")
        if self.head_size % 2:
            raise UsageError(f"rotary positions need an even head size, not {self.head_size}")
        if not (0 < self.rope_theta < inf and 0 < self.norm_eps < inf):
            raise UsageError("the model's rope_theta and norm_eps must be above 0, and finite")
        if self.family not in FAMILIES:
            raise UsageError(f"unknown model family {self.family!r}: {' or '.join(FAMILIES)}")
        if self.attention not in ATTENTIONS:
            raise UsageError(f"attention is {' or '.join(ATTENTIONS)}, not {self.attention!r}")

    @property
    def is_causal(self) -> bool:
        """Whether a token meets no later one."""
        return self.attention == "causal"

    @property
    def initial_std(self) -> float:
        """Standard deviation of fresh weights; "small init" where the configuration says none."""
        return self.initializer_range or sqrt(2 / (5 * self.width))


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter under the name the transformer gives it, in order."""
    table = (config.vocab_size, config.width)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": table}
    for layer in range(config.layers):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in layer_shapes(config).items()}
    shapes["final_norm.weight"] = (config.width,)
    if not config.tied:
        shapes["output.weight"] = table
    return shapes


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of one layer, in order."""
    width, ffn = config.width, config.ffn_size
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "attention_norm.weight": (width,),
        "attention.query.weight": (queries, width),
        "attention.query.bias": (queries,),
        "attention.key.weight": (keys, width),
        "attention.key.bias": (keys,),
        "attention.value.weight": (keys, width),
        "attention.value.bias": (keys,),
        "attention.output.weight": (width, queries),
        "attention.query_norm.weight": (config.head_size,),
        "attention.key_norm.weight": (config.head_size,),
        "ffn_norm.weight": (width,),
        "ffn.gate.weight": (ffn, width),
        "ffn.up.weight": (ffn, width),
        "ffn.down.weight": (width, ffn),
    }
    absent = () if config.qkv_bias else QKV_BIASES
    absent += () if config.qk_norm else QK_NORMS
    return {name: shape for name, shape in shapes.items() if name not in absent}


def parameter_count(config: ModelConfig) -> int:
    """Count all parameters, a tied head once."""
    shapes = parameter_shapes(replace(config, layers=1))  # any number of layers, at no cost
    layer = sum(prod(shape) for name, shape in shapes.items() if name.startswith("layers."))
    return sum(map(prod, shapes.values())) + (config.layers - 1) * layer


def non_embedding_parameter_count(config: ModelConfig) -> int:
    """Count the parameters that are neither the embedding nor a separate head."""
    tables = 1 if config.tied else 2
    return parameter_count(config) - tables * config.vocab_size * config.width
