"""A tiny causal model with the tokenizer of `byte_model`: byte b is the id b + 6."""

from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.weights import save_model
from tests.byte_model import write_byte_model

CONFIG = ModelConfig(
    vocab_size=300,
    width=24,
    layers=2,
    heads=3,
    kv_heads=1,
    head_size=8,
    ffn_size=40,
    max_length=256,
    rope_theta=1e4,
    initializer_range=0.3,
    family="llama",
    attention="causal",
    shift=True,
    bos_id=0,
    pad_id=1,
    eos_id=2,
)


def write_causal_model(folder):
    """Write the model's folder; return its path."""
    beside = folder.parent / f"{folder.name}-bytes"
    write_byte_model(beside)
    save_model(new_model(CONFIG, seed=3), folder, "llama", beside / "tokenizer.json")
    return folder
