"""LLaDA 1.0 and 1.5: OLMo's keys, all heads, positions in float32; full attention. No torch.

It calls two things `ff_out`, the head, and in every block the projection down; whole names keep
them apart.
"""

from illada_core.decoding import shaped
from illada_core.errors import UsageError
from illada_core.model.config import ModelConfig
from illada_core.model.families.family import FULL_OWN, Facts, Family, mitchell_std
from illada_core.model.families.fields import flag, number, optional_number, size, special_ids
from illada_core.model.families.rotary import refuse_scaling, rope_theta

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

NAMES = {
    "embedding.weight": "model.transformer.wte.weight",
    "layers.N.attention_norm.weight": "model.transformer.blocks.N.attn_norm.weight",
    "layers.N.attention.query.weight": "model.transformer.blocks.N.q_proj.weight",
    "layers.N.attention.key.weight": "model.transformer.blocks.N.k_proj.weight",
    "layers.N.attention.value.weight": "model.transformer.blocks.N.v_proj.weight",
    "layers.N.attention.output.weight": "model.transformer.blocks.N.attn_out.weight",
    "layers.N.ffn_norm.weight": "model.transformer.blocks.N.ff_norm.weight",
    "layers.N.ffn.gate.weight": "model.transformer.blocks.N.ff_proj.weight",
    "layers.N.ffn.up.weight": "model.transformer.blocks.N.up_proj.weight",
    "layers.N.ffn.down.weight": "model.transformer.blocks.N.ff_out.weight",
    "final_norm.weight": "model.transformer.ln_f.weight",
    "output.weight": "model.transformer.ff_out.weight",
}


def read(facts: Facts) -> ModelConfig:
    """Translate config.json."""
    refuse_scaling(facts)
    width, heads = size(facts, "d_model"), size(facts, "n_heads")
    if facts.get("head_dim") not in (None, width // heads):
        raise UsageError(f"head_dim is {facts['head_dim']}, and the layout has {width // heads}")
    return ModelConfig(
        vocab_size=size(facts, "embedding_size", 0) or size(facts, "vocab_size"),
        width=width,
        layers=size(facts, "n_layers"),
        heads=heads,
        kv_heads=size(facts, "n_kv_heads", heads),
        head_size=width // heads,
        ffn_size=size(facts, "mlp_hidden_size", 0) or int(number(facts, "mlp_ratio") * width),
        max_length=size(facts, "max_sequence_length"),
        rope_theta=rope_theta(facts),
        norm_eps=number(facts, "rms_norm_eps"),
        tied=shaped(facts["weight_tying"], bool, "weight_tying"),
        rope_in_float32=flag(facts, "rope_full_precision", LLADA_8B.rope_in_float32),
        family="llada",
        initializer_range=optional_number(facts, "init_std"),
        **special_ids(facts),
    )


def write(config: ModelConfig) -> Facts:
    """Return config.json as it is released."""
    if config.head_size * config.heads != config.width:
        raise UsageError("the llada layout cannot say a head size other than width / heads")
    return {
        "architectures": ["LLaDAModelLM"],
        "activation_type": "silu",
        "alibi": False,
        "attention_dropout": 0.0,
        "attention_layer_norm": False,
        "attention_layer_norm_with_affine": True,
        "bias_for_layer_norm": False,
        "block_group_size": 1,
        "block_type": "llama",
        "d_model": config.width,
        "embedding_dropout": 0.0,
        "embedding_size": config.vocab_size,
        "flash_attention": False,
        "include_bias": False,
        "include_qkv_bias": False,
        "init_fn": "mitchell",
        "init_std": config.initial_std,
        "input_emb_norm": False,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "max_sequence_length": config.max_length,
        "mlp_hidden_size": config.ffn_size,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "n_layers": config.layers,
        "residual_dropout": 0.0,
        "rms_norm_eps": config.norm_eps,
        "rope": True,
        "rope_full_precision": config.rope_in_float32,
        "rope_theta": config.rope_theta,
        "scale_logits": False,
        "use_cache": False,
        "vocab_size": config.vocab_size,
        "weight_tying": config.tied,
    }


FAMILY = Family(
    readings={"llada": FULL_OWN},
    names=NAMES,
    read=read,
    write=write,
    initial_std=mitchell_std,
    truncated_stds=3.0,
    pad_row_is_zero=False,
    stores_tied_head=True,
    mask_id=LLADA_8B.mask_id,
)
