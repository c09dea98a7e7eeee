"""Dream, Dream-Coder, DiffuCoder: Qwen2 without the causal mask, its shift kept. No torch.

Dream-Reasoner goes by the same model type and is another function: block-causal, own tokens.
"""

from illada_core.model.config import ModelConfig
from illada_core.model.families.doubts import other_architecture
from illada_core.model.families.family import FULL_NEXT, Facts, Family
from illada_core.model.families.llama_style import NAMES, llama_style_facts, read_llama_style

ARCHITECTURE = "DreamModel"
MASK_ID = 151_666
REASONER_MASK_ID = 151_669


def read(facts: Facts) -> ModelConfig:
    """Translate config.json; the class has biases and reads no head size."""
    return read_llama_style({**facts, "head_dim": None}, family="dream", qkv_bias=True)


def write(config: ModelConfig) -> Facts:
    """Return config.json as it is released."""
    return {
        "architectures": [ARCHITECTURE],
        "sliding_window": None,
        "use_cache": False,
        "use_sliding_window": False,
        **llama_style_facts(config),
    }


def doubts(facts: Facts) -> list[str]:
    """Tell what speaks for Dream-Reasoner, or for another class."""
    mask_id = facts.get("mask_token_id")
    reasoner = [f"mask_token_id {mask_id}, Dream-Reasoner's"] if mask_id == REASONER_MASK_ID else []
    return [*other_architecture(facts, ARCHITECTURE), *reasoner]


FAMILY = Family(
    readings={"Dream": FULL_NEXT},
    names=NAMES,
    read=read,
    write=write,
    doubts=doubts,
    mask_id=MASK_ID,
)
