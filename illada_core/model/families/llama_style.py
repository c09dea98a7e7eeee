"""What the families named after Llama share: keys of config.json, and names of weights. No torch.

`N` stands for a layer's number. Not every family has biases or norms of queries and keys: a file
that holds more or less than its own is refused where weights are read.
"""

from typing import Any

from illada_core.model.config import ModelConfig
from illada_core.model.families.family import Facts
from illada_core.model.families.fields import flag, number, optional_number, size, special_ids
from illada_core.model.families.rotary import llama3_scaling, rope_theta, scaling_facts

NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "layers.N.attention_norm.weight": "model.layers.N.input_layernorm.weight",
    "layers.N.attention.query.weight": "model.layers.N.self_attn.q_proj.weight",
    "layers.N.attention.query.bias": "model.layers.N.self_attn.q_proj.bias",
    "layers.N.attention.key.weight": "model.layers.N.self_attn.k_proj.weight",
    "layers.N.attention.key.bias": "model.layers.N.self_attn.k_proj.bias",
    "layers.N.attention.value.weight": "model.layers.N.self_attn.v_proj.weight",
    "layers.N.attention.value.bias": "model.layers.N.self_attn.v_proj.bias",
    "layers.N.attention.output.weight": "model.layers.N.self_attn.o_proj.weight",
    "layers.N.attention.query_norm.weight": "model.layers.N.self_attn.q_norm.weight",
    "layers.N.attention.key_norm.weight": "model.layers.N.self_attn.k_norm.weight",
    "layers.N.ffn_norm.weight": "model.layers.N.post_attention_layernorm.weight",
    "layers.N.ffn.gate.weight": "model.layers.N.mlp.gate_proj.weight",
    "layers.N.ffn.up.weight": "model.layers.N.mlp.up_proj.weight",
    "layers.N.ffn.down.weight": "model.layers.N.mlp.down_proj.weight",
    "final_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def read_llama_style(facts: Facts, tied: bool = False, **of_family: Any) -> ModelConfig:
    """Translate the keys; `tied` holds where a file does not say it.

    Raises KeyError, ValueError or UsageError for what a file lacks or gets wrong.
    """
    heads, width = size(facts, "num_attention_heads"), size(facts, "hidden_size")
    return ModelConfig(
        vocab_size=size(facts, "vocab_size"),
        width=width,
        layers=size(facts, "num_hidden_layers"),
        heads=heads,
        kv_heads=size(facts, "num_key_value_heads", heads),
        head_size=size(facts, "head_dim", width // heads),
        ffn_size=size(facts, "intermediate_size"),
        max_length=size(facts, "max_position_embeddings"),
        rope_theta=rope_theta(facts),
        rope_scaling=llama3_scaling(facts),
        norm_eps=number(facts, "rms_norm_eps"),
        tied=flag(facts, "tie_word_embeddings", tied),
        rope_in_float32=flag(facts, "rope_full_precision", False),
        initializer_range=optional_number(facts, "initializer_range"),
        **of_family,
        **special_ids(facts),
    )


def llama_style_facts(config: ModelConfig) -> Facts:
    """Return the keys that all of them write.

    `rope_full_precision` is ours, and only there where it departs from the family.
    """
    facts: Facts = {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": config.width,
        "initializer_range": config.initial_std,
        "intermediate_size": config.ffn_size,
        "max_position_embeddings": config.max_length,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_scaling": scaling_facts(config.rope_scaling),
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "vocab_size": config.vocab_size,
    }
    if config.head_size * config.heads != config.width:
        facts["head_dim"] = config.head_size
    if config.rope_in_float32:
        facts["rope_full_precision"] = True
    return facts
