"""`config.json` of the two released families, both ways; no torch.

Whatever a file says that this transformer does not compute is an error (`features`).
"""

from pathlib import Path
from typing import Any

from illada_core.decoding import Count, shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding, read_json
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
        with decoding(path, CheckpointError, fault="describes no model"):
            refuse_features(facts)
            return illada_config(facts) if family == "illada" else llada_config(facts)
    except KeyError as error:
        raise CheckpointError(f"{path} does not say {error.args[0]}") from None
    except ZeroDivisionError:
        raise CheckpointError(f"{path} gives the model no attention heads") from None
    except UsageError as error:
        raise CheckpointError(f"{path}: {error.sentence}", error.hint) from None


def size(facts: dict[str, Any], name: str, default: int | None = None) -> int:
    """Return a size that a file gives; zero and null leave it to the default, if there is one.

    Raises KeyError where neither gives it, ValueError for what is no whole number.
    """
    if default is not None and facts.get(name) in (None, 0):
        return default
    return shaped(facts[name], Count, name)


def number(facts: dict[str, Any], name: str) -> float:
    """Return a number that a file gives. Raises KeyError or ValueError."""
    return shaped(facts[name], float, name)


def flag(facts: dict[str, Any], name: str, default: bool) -> bool:
    """Return what a file may leave out of what is true or false. Raises ValueError."""
    given = shaped(facts.get(name), bool | None, name)
    return default if given is None else given


def special_ids(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the special ids under our names; of several eos ids the first. Raises ValueError."""
    ids = {}
    for ours in ("bos", "pad", "eos", "mask"):
        name = f"{ours}_token_id"
        value = shaped(facts.get(name), int | list[int] | None, name)
        ids[f"{ours}_id"] = next(iter(value), None) if isinstance(value, list) else value
    return ids


def optional_number(facts: dict[str, Any], name: str) -> float | None:
    """Return a number that a file may leave out. Raises ValueError for another."""
    return shaped(facts.get(name), float | None, name)


def illada_config(facts: dict[str, Any]) -> ModelConfig:
    """Translate the Llama-style keys of iLLaDA."""
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
        norm_eps=number(facts, "rms_norm_eps"),
        # transformers writes no key that has its own default, and here that is true.
        tied=flag(facts, "tie_word_embeddings", True),
        rope_in_float32=flag(facts, "rope_full_precision", False),
        family="illada",
        initializer_range=optional_number(facts, "initializer_range"),
        **special_ids(facts),
    )


def llada_config(facts: dict[str, Any]) -> ModelConfig:
    """Translate the OLMo-style keys of LLaDA."""
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
