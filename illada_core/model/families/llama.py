"""Llama 2 and 3, SmolLM2: no biases, the head tied or not; causal unless told. No torch."""

from illada_core.model.config import ModelConfig
from illada_core.model.families.doubts import other_architecture, signs_of_diffusion
from illada_core.model.families.family import CAUSAL_NEXT, Facts, Family, Reading
from illada_core.model.families.llama_style import NAMES, llama_style_facts, read_llama_style

ARCHITECTURE = "LlamaForCausalLM"


def read(facts: Facts) -> ModelConfig:
    """Translate config.json."""
    return read_llama_style(facts, family="llama")


def write(config: ModelConfig) -> Facts:
    """Return config.json as transformers writes it."""
    return {
        "architectures": [ARCHITECTURE],
        "attention_bias": False,
        "mlp_bias": False,
        **llama_style_facts(config),
    }


def doubts(facts: Facts) -> list[str]:
    """Tell what speaks against an autoregressive model."""
    if facts["model_type"] != "llama":
        return []
    return [*other_architecture(facts, ARCHITECTURE), *signs_of_diffusion(facts)]


FAMILY = Family(
    # dLLM's converted models are trained with full attention or block by block, by one name.
    readings={
        "llama": CAUSAL_NEXT,
        "a2d-llama": Reading(shift=False),
        "illada-llama": Reading(),
    },
    names=NAMES,
    read=read,
    write=write,
    doubts=doubts,
    computed={"use_bidirectional_attention": (True, False, None), "is_causal": (True, False, None)},
)
