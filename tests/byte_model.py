"""A tiny model whose tokenizer makes byte b the id b + 6."""

import json
import shutil
from pathlib import Path

TINY = Path(__file__).resolve().parent / "fixtures" / "illada-tiny"
CONTROLS = {"<[BOS]>": 0, "<[PAD]>": 1, "<[EOS]>": 2, "<[MASK]>": 5, "<|eot_id|>": 262}
FIRST_BYTE_ID = 6


def byte_letters():
    """Return the letter that stands for each byte in byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(rest)) for byte in range(256)]


def write_byte_model(folder):
    """Write the model's folder; its context is 512 tokens."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(TINY / name, folder / name)
    vocabulary = {letter: FIRST_BYTE_ID + byte for byte, letter in enumerate(byte_letters())}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    content = {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": name, "special": True, "single_word": False}
            | {"lstrip": False, "rstrip": False, "normalized": False}
            for name, number in CONTROLS.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {"type": "BPE", "vocab": {**vocabulary, **CONTROLS}, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
