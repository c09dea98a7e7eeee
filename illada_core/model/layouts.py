"""The one table of names: our parameters and the keys of the two released layouts.

`N` stands for a layer's number. LLaDA calls two things `ff_out`: the head, and in every block
the projection down; whole names keep them apart.
"""

from illada_core.model.config import ModelConfig, parameter_shapes

ILLADA_NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "layers.N.attention_norm.weight": "model.layers.N.input_layernorm.weight",
    "layers.N.attention.query.weight": "model.layers.N.self_attn.q_proj.weight",
    "layers.N.attention.key.weight": "model.layers.N.self_attn.k_proj.weight",
    "layers.N.attention.value.weight": "model.layers.N.self_attn.v_proj.weight",
    "layers.N.attention.output.weight": "model.layers.N.self_attn.o_proj.weight",
    "layers.N.ffn_norm.weight": "model.layers.N.post_attention_layernorm.weight",
    "layers.N.ffn.gate.weight": "model.layers.N.mlp.gate_proj.weight",
    "layers.N.ffn.up.weight": "model.layers.N.mlp.up_proj.weight",
    "layers.N.ffn.down.weight": "model.layers.N.mlp.down_proj.weight",
    "final_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

LLADA_NAMES = {
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

LAYOUTS = {"illada": ILLADA_NAMES, "llada": LLADA_NAMES}


def stored_names(config: ModelConfig, layout: str) -> dict[str, str]:
    """Return the key under which `layout` stores each of our parameters, in our order."""
    table = LAYOUTS[layout]
    names = {}
    for ours in parameter_shapes(config):
        head, dot, rest = ours.partition(".")
        if head == "layers":
            number, _, leaf = rest.partition(".")
            names[ours] = table[f"layers.N.{leaf}"].replace(".N.", f".{number}.")
        else:
            names[ours] = table[head + dot + rest]
    return names


def doubled_head(config: ModelConfig, layout: str) -> str | None:
    """Return the key of the copy a tied head may be stored as, beside the embedding."""
    return LAYOUTS[layout]["output.weight"] if config.tied else None
