"""iLLaDA: Llama's keys, grouped heads, a tied head; own tokens, full attention. No torch."""

from illada_core.model.config import ModelConfig
from illada_core.model.families.family import FULL_OWN, Facts, Family, small_std
from illada_core.model.families.llama_style import NAMES, llama_style_facts, read_llama_style
from illada_core.model.families.rotary import refuse_scaling

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


def read(facts: Facts) -> ModelConfig:
    """Translate config.json; transformers writes no key that has its own default."""
    refuse_scaling(facts)
    return read_llama_style(facts, tied=True, family="illada")


def write(config: ModelConfig) -> Facts:
    """Return config.json as it is released."""
    return {
        "architectures": ["ILLaDAForCausalLM"],
        "attention_bias": False,
        "layer_norm_eps": None,
        "mlp_bias": False,
        "resid_pdrop": 0.0,
        "use_cache": False,
        **llama_style_facts(config),
    }


FAMILY = Family(
    readings={"illada": FULL_OWN},
    names=NAMES,
    read=read,
    write=write,
    initial_std=small_std,
    stores_tied_head=True,
    mask_id=ILLADA_8B.mask_id,
)
