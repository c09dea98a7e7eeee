"""What a config.json may ask of a model that this transformer does not compute; no torch.

One table for all layouts: a file of one may carry a field of another, or of the family that it was
converted from, and a field that changes the function is refused by its name, never ignored.
Dropout is the exception: it is off outside the training that wrote the file.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from illada_core.errors import UsageError

# How a field may say that its feature is off. An absent field is fine as well.
OFF: tuple[Any, ...] = (False, None, 0, "", [], {}, "none", "default")
UNSET: tuple[Any, ...] = (None, False)  # for numbers, where 0 would be another function
ONE: tuple[Any, ...] = (1.0, None, False)  # for factors
FULL_ATTENTION = "full_attention"

# What each field may say; the first is what the transformer computes.
COMPUTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "hidden_activation": ("silu", "swish", None),
    "activation_type": ("silu",),
    "block_type": ("llama",),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "layer_norm_eps": UNSET,
    "attention_layer_norm": OFF,
    "use_qk_norm": OFF,
    "qk_norm": OFF,
    "input_emb_norm": OFF,
    "norm_after": OFF,
    "rope": (True,),
    "position_embedding_type": ("rope", "rotary", None),
    "partial_rotary_factor": ONE,
    "rotary_pct": ONE,
    "alibi": OFF,
    "clip_qkv": UNSET,
    "multi_query_attention": OFF,
    "multi_query": OFF,
    "parallel_attn": OFF,
    "use_parallel_residual": OFF,
    "add_cross_attention": OFF,
    "use_bidirectional_attention": (True, "all", None),
    "use_sliding_window": OFF,
    "block_size": OFF,
    "shift_logits": OFF,
    "attn_logit_softcapping": UNSET,
    "final_logit_softcapping": UNSET,
    "query_pre_attn_scalar": UNSET,
    "attention_multiplier": UNSET,
    "embedding_multiplier": ONE,
    "residual_multiplier": ONE,
    "logits_scaling": ONE,
    "logit_scale": ONE,
    "scale_logits": OFF,
    "scale_embedding": OFF,
    "scale_emb": ONE,
    "scale_depth": UNSET,
    "quantization_config": OFF,
}
# Words in the names of fields that the table does not list: they must be off.
SUSPECT = re.compile(
    r"(^|_)(moe|experts?|rope|rotary|mrope|yarn|alibi|causal|sliding|softcap\w*|lora|interleaved?|"
    r"multiplier|quanti[sz]\w*|chunk_size|qk_\w+|qkv_\w+|sinks?|block_size|bias)(_|$)"
)
# Fields with such a word that are read elsewhere, or that change nothing.
HARMLESS = {
    "rope_theta",
    "rope_full_precision",
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "chunk_size_feed_forward",
}


def refuse_features(
    facts: dict[str, Any], of_family: Mapping[str, tuple[Any, ...]] | None = None
) -> None:
    """Raise UsageError for a field that asks for what is not computed.

    `of_family` are values that files of a family may hold where others may not.
    """
    computed = {**COMPUTED, **(of_family or {})}
    for name, value in facts.items():
        if name in computed:
            refuse_other(name, value, computed[name])
        elif SUSPECT.search(name) and name not in HARMLESS:
            refuse_other(name, value, OFF)
    # A window that is turned off beside it is none: that is how Qwen2's files have it.
    if facts.get("use_sliding_window") is not False:
        refuse_other("sliding_window", facts.get("sliding_window"), (None, False, 0))
    kinds = facts.get("layer_types")
    if kinds is not None and (
        not isinstance(kinds, list) or any(kind != FULL_ATTENTION for kind in kinds)
    ):
        refuse_other("layer_types", kinds, ([FULL_ATTENTION],))


def refuse_other(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """Raise UsageError unless a value is among the known ones; true is not 1, nor false 0."""
    if not any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in known
    ):
        raise UsageError(
            f"{name} is {json.dumps(value)}, which is not supported",
            f"only {json.dumps(known[0])} is",
        )
