"""Qwen3, dense: norms of queries and keys, no biases; causal unless told. No torch."""

from illada_core.model.config import ModelConfig
from illada_core.model.families.doubts import other_architecture, signs_of_diffusion
from illada_core.model.families.family import CAUSAL_NEXT, Facts, Family, Reading
from illada_core.model.families.llama_style import NAMES, llama_style_facts, read_llama_style

ARCHITECTURE = "Qwen3ForCausalLM"


def read(facts: Facts) -> ModelConfig:
    """Translate config.json."""
    return read_llama_style(facts, family="qwen3", qk_norm=True)


def write(config: ModelConfig) -> Facts:
    """Return config.json as transformers writes it."""
    return {
        "architectures": [ARCHITECTURE],
        "attention_bias": False,
        "use_sliding_window": False,
        **llama_style_facts(config),
        "head_dim": config.head_size,
    }


def doubts(facts: Facts) -> list[str]:
    """Tell what speaks against an autoregressive model."""
    if facts["model_type"] != "qwen3":
        return []
    return [*other_architecture(facts, ARCHITECTURE), *signs_of_diffusion(facts)]


FAMILY = Family(
    # dLLM's converted models are trained with full attention or block by block, by one name.
    readings={
        "qwen3": CAUSAL_NEXT,
        "a2d-qwen3": Reading(shift=False),
        "illada-qwen3": Reading(),
    },
    names=NAMES,
    read=read,
    write=write,
    doubts=doubts,
    computed={"use_bidirectional_attention": (True, False, None), "is_causal": (True, False, None)},
)
