"""The shape of a model, without torch: what a recipe or a checkpoint says, and what follows.

The two released shapes are the presets. Files decide; presets serve tests, new models and
cross-checks.
"""

from dataclasses import dataclass, replace
from math import inf, prod, sqrt

from illada_core.errors import CheckpointError, UsageError

FAMILIES = ("illada", "llada")
MOST_LAYERS = 10_000  # their names are listed before anybody has looked at the weights


@dataclass(frozen=True)
class ModelConfig:
    """Sizes, constants and special ids of one transformer.

    Raises UsageError when the sizes contradict each other. `family` decides the layout on disk
    and the initialisation; `rope_in_float32` whether queries and keys are rotated in float32
    (LLaDA) or in the compute dtype (iLLaDA).
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

    @property
    def initial_std(self) -> float:
        """Standard deviation of fresh weights; "small init" where the configuration says none."""
        return self.initializer_range or sqrt(2 / (5 * self.width))


ILLADA_8B = ModelConfig(
    vocab_size=155_136,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_size=128,
    ffn_size=14_336,
    max_length=8192,
    initializer_range=0.009882118,
    bos_id=0,
    pad_id=1,
    eos_id=2,
    mask_id=5,
)

LLADA_8B = ModelConfig(
    vocab_size=126_464,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=32,
    head_size=128,
    ffn_size=12_288,
    max_length=4096,
    norm_eps=1e-5,
    tied=False,
    rope_in_float32=True,
    family="llada",
    initializer_range=0.02,
    bos_id=126_080,
    pad_id=126_081,
    eos_id=126_081,
    mask_id=126_336,
)

PRESETS = {"illada": ILLADA_8B, "llada": LLADA_8B}
MASK_STRINGS = {"illada": "<[MASK]>", "llada": "<|mdm_mask|>"}


def choose_mask_id(config: ModelConfig, asked: int | None, in_vocabulary: int | None) -> int:
    """Return the mask id: asked for, else the tokenizer's, else the file's, else the family's.

    `in_vocabulary` is the id of the family's MASK_STRINGS in the tokenizer, None without one.
    Raises UsageError for an asked id, CheckpointError for another, that cannot be the mask.
    """
    known = (asked, in_vocabulary, config.mask_id, PRESETS[config.family].mask_id)
    mask_id = next(number for number in known if number is not None)
    fault = None
    if not 0 <= mask_id < config.vocab_size:
        fault = f"the mask id {mask_id} is outside the model's {config.vocab_size} ids"
    elif mask_id in (config.pad_id, config.eos_id, config.bos_id):
        fault = f"the mask id {mask_id} is also the model's bos, eos or pad id"
    if fault is None:
        return mask_id
    if asked is not None:
        raise UsageError(fault)
    raise CheckpointError(fault, hint="say which id is the mask with --mask-id")


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter under the name the transformer gives it, in order."""
    width, ffn = config.width, config.ffn_size
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (config.vocab_size, width)}
    for layer in range(config.layers):
        shapes |= {
            f"layers.{layer}.attention_norm.weight": (width,),
            f"layers.{layer}.attention.query.weight": (queries, width),
            f"layers.{layer}.attention.key.weight": (keys, width),
            f"layers.{layer}.attention.value.weight": (keys, width),
            f"layers.{layer}.attention.output.weight": (width, queries),
            f"layers.{layer}.ffn_norm.weight": (width,),
            f"layers.{layer}.ffn.gate.weight": (ffn, width),
            f"layers.{layer}.ffn.up.weight": (ffn, width),
            f"layers.{layer}.ffn.down.weight": (width, ffn),
        }
    shapes["final_norm.weight"] = (width,)
    if not config.tied:
        shapes["output.weight"] = (config.vocab_size, width)
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Count all parameters, a tied head once."""
    shapes = parameter_shapes(replace(config, layers=1))  # any number of layers, at no cost
    layer = sum(prod(shape) for name, shape in shapes.items() if name.startswith("layers."))
    return sum(map(prod, shapes.values())) + (config.layers - 1) * layer


def non_embedding_parameter_count(config: ModelConfig) -> int:
    """Count the parameters that are neither the embedding nor a separate head."""
    tables = 1 if config.tied else 2
    return parameter_count(config) - tables * config.vocab_size * config.width
