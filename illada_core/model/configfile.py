"""`config.json` of the two released families, both ways; no torch.

Whatever a file says that this transformer does not compute is an error (`features`).
"""

from pathlib import Path
from typing import Any

from illada_core.errors import CheckpointError, UsageError
from illada_core.files import read_json
from illada_core.model.config import LLADA_8B, ModelConfig
from illada_core.model.features import refuse_features, rope_theta
from illada_core.model.finding import CONFIG


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json` of a released or exported model.

    Raises CheckpointError for a missing or broken file, another architecture, or a feature the
    transformer does not have.
    """
    path = Path(folder) / CONFIG
    if not path.exists():
        raise CheckpointError(
            f"{path} is missing, so {path.parent} is no model folder",
            hint=f"a model folder holds {CONFIG} and model.safetensors",
        )
    facts = read_json(path, CheckpointError)
    family = facts.get("model_type")
    if family not in ("illada", "llada"):
        raise CheckpointError(
            f"{path}: the model type is {family!r}, which this transformer does not compute",
            hint="models of type illada (iLLaDA) and llada (LLaDA-8B, LLaDA-1.5) can be loaded",
        )
    try:
        refuse_features(facts)
        return illada_config(facts) if family == "illada" else llada_config(facts)
    except KeyError as error:
        raise CheckpointError(f"{path} does not say {error.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} holds a value that is no number ({error})") from None
    except ZeroDivisionError:
        raise CheckpointError(f"{path} gives the model no attention heads") from None
    except UsageError as error:
        raise CheckpointError(f"{path}: {error.sentence}", error.hint) from None


def special_ids(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the special ids under our names; of several eos ids the first."""
    ids = {}
    for ours in ("bos", "pad", "eos", "mask"):
        value = facts.get(f"{ours}_token_id")
        ids[f"{ours}_id"] = value[0] if isinstance(value, list) and value else value
    return ids


def optional_number(facts: dict[str, Any], name: str) -> float | None:
    """Return a number that a file may leave out. Raises TypeError or ValueError for another."""
    return None if facts.get(name) is None else float(facts[name])


def illada_config(facts: dict[str, Any]) -> ModelConfig:
    """Translate the Llama-style keys of iLLaDA."""
    heads = int(facts["num_attention_heads"])
    return ModelConfig(
        vocab_size=int(facts["vocab_size"]),
        width=int(facts["hidden_size"]),
        layers=int(facts["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(facts.get("num_key_value_heads") or heads),
        head_size=int(facts.get("head_dim") or int(facts["hidden_size"]) // heads),
        ffn_size=int(facts["intermediate_size"]),
        max_length=int(facts["max_position_embeddings"]),
        rope_theta=rope_theta(facts),
        norm_eps=float(facts["rms_norm_eps"]),
        # transformers writes no key that has its own default, and here that is true.
        tied=bool(facts.get("tie_word_embeddings", True)),
        rope_in_float32=bool(facts.get("rope_full_precision", False)),
        family="illada",
        initializer_range=optional_number(facts, "initializer_range"),
        **special_ids(facts),
    )


def llada_config(facts: dict[str, Any]) -> ModelConfig:
    """Translate the OLMo-style keys of LLaDA."""
    width, heads = int(facts["d_model"]), int(facts["n_heads"])
    if facts.get("head_dim") not in (None, width // heads):
        raise UsageError(f"head_dim is {facts['head_dim']}, and the layout has {width // heads}")
    return ModelConfig(
        vocab_size=int(facts.get("embedding_size") or facts["vocab_size"]),
        width=width,
        layers=int(facts["n_layers"]),
        heads=heads,
        kv_heads=int(facts.get("n_kv_heads") or heads),
        head_size=width // heads,
        ffn_size=int(facts.get("mlp_hidden_size") or facts["mlp_ratio"] * width),
        max_length=int(facts["max_sequence_length"]),
        rope_theta=rope_theta(facts),
        norm_eps=float(facts["rms_norm_eps"]),
        tied=bool(facts["weight_tying"]),
        rope_in_float32=bool(facts.get("rope_full_precision", LLADA_8B.rope_in_float32)),
        family="llada",
        initializer_range=optional_number(facts, "init_std"),
        **special_ids(facts),
    )


def config_facts(config: ModelConfig, layout: str, dtype: str) -> dict[str, Any]:
    """Return the contents of config.json as a released checkpoint of `layout` writes them.

    Added to the released keys: `mask_token_id`, so that the folder describes itself, and in the
    iLLaDA layout `rope_full_precision` where it departs from the family. Left out: `auto_map`,
    which names files of code that an export does not hold.
    """
    facts = illada_facts(config) if layout == "illada" else llada_facts(config)
    ids = {f"{name}_token_id": vars(config)[f"{name}_id"] for name in ("bos", "eos", "mask", "pad")}
    facts |= {name: number for name, number in ids.items() if number is not None}
    return facts | {"torch_dtype": dtype}


def illada_facts(config: ModelConfig) -> dict[str, Any]:
    facts = {
        "architectures": ["ILLaDAForCausalLM"],
        "model_type": "illada",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": config.width,
        "initializer_range": config.initial_std,
        "intermediate_size": config.ffn_size,
        "layer_norm_eps": None,
        "max_position_embeddings": config.max_length,
        "mlp_bias": False,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "resid_pdrop": 0.0,
        "rms_norm_eps": config.norm_eps,
        "rope_scaling": None,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "use_cache": False,
        "vocab_size": config.vocab_size,
    }
    if config.head_size * config.heads != config.width:
        facts["head_dim"] = config.head_size
    if config.rope_in_float32:
        facts["rope_full_precision"] = True
    return facts


def llada_facts(config: ModelConfig) -> dict[str, Any]:
    if config.head_size * config.heads != config.width:
        raise UsageError("the llada layout cannot say a head size other than width / heads")
    return {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
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
