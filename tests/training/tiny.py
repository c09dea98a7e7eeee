"""A tiny packed dataset and a tiny recipe, for tests that train."""

import hashlib
import json
import tomllib

import numpy as np

from illada_core.data.store.frames import narrow, token_bytes_of
from illada_core.data.store.manifest import (
    Manifest,
    read_manifest_file,
    write_manifest,
    write_manifest_file,
)
from illada_core.data.store.shards import RowChunk, TokenShardWriter, shard_name
from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord
from illada_core.training.recipe.files import apply_change, recipe_from

VOCABULARY, EOS, MASK, ROW_TOKENS = 40, 2, 5, 32
RECIPE = """
[model]
layers = 2
width = 16
heads = 2
kv_heads = 1
ffn_size = 32
max_length = 32
[batch]
rows = 4
micro_rows = 2
[optimizer]
peak_lr = 1e-2
[schedule]
warmup_tokens = 256
final_lr = 1e-3
decay_share = 0.5
[run]
total_tokens = 1536
compute_dtype = "float32"
device = "cpu"
[checkpoint]
every_steps = 4
[validation]
least_tokens = 0
[log]
curves = false
[plan]
device = "H100"
"""


def tokenizer_json(vocabulary=VOCABULARY):
    """Return a tokenizer.json in which every ordinary token is one ASCII character."""
    control = {0: "<[BOS]>", 1: "<[PAD]>", 2: "<[EOS]>", 5: "<[MASK]>"}
    tokens = {control.get(number) or chr(60 + number): number for number in range(vocabulary)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": content, "special": True, **flags}
        for number, content in control.items()
    ]
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": tokens, "unk_token": chr(64)},
        }
    )


def write_rows(
    folder, rows, vocabulary=VOCABULARY, mask=MASK, tokenizer=None, row_tokens=ROW_TOKENS
):
    """Write a dataset of `rows` rows in which each token follows from the one before it."""
    folder.mkdir(parents=True)
    steps = np.random.default_rng(len(folder.name)).integers(1, 4, rows * row_tokens)
    ids = (6 + np.cumsum(steps) % 30).astype(np.uint32)
    lengths = np.full(rows, row_tokens, np.int64)
    none = np.zeros(rows, np.int64)
    with TokenShardWriter(folder / shard_name(0, vocabulary), vocabulary, "job") as shard:
        stored = narrow(ids, token_bytes_of(vocabulary))
        shard.add_rows(RowChunk(stored, lengths, lengths, lengths, none, none, none))
        entry = shard.close()
    special = SpecialIds(bos=0, pad=1, eos=2, mask=mask)
    sha256 = tokenizer or hashlib.sha256(tokenizer_json().encode()).hexdigest()
    write_manifest(
        folder, Manifest("rows", TokenizerRecord(sha256, vocabulary, special), (), {}, (entry,))
    )


def write_conversations(folder, rows):
    """Write rows of two conversations: eight letters ask, the seven after them answer, then eos."""
    folder.mkdir(parents=True)
    conversations = 2 * rows
    firsts = np.random.default_rng(len(folder.name)).integers(6, 26, (conversations, 1))
    ids = (firsts + np.arange(16) % 8).astype(np.uint32)
    ids[:, 8:] += 1
    ids[:, -1] = EOS
    lengths = np.full(conversations, 16, np.int64)
    numbers, none = np.arange(conversations), np.zeros(conversations, np.int64)
    turns = np.tile(np.array([0, 1]), conversations)
    with TokenShardWriter(folder / shard_name(0, VOCABULARY), VOCABULARY, "job") as shard:
        stored = narrow(ids.ravel(), token_bytes_of(VOCABULARY))
        row_lengths = np.full(rows, ROW_TOKENS, np.int64)
        shard.add_rows(RowChunk(stored, row_lengths, lengths, lengths, none, numbers, none))
        shard.add_spans(np.full(2 * conversations, 8), turns)
        entry = shard.close()
    record = TokenizerRecord(
        hashlib.sha256(tokenizer_json().encode()).hexdigest(),
        VOCABULARY,
        SpecialIds(bos=0, pad=1, eos=EOS, mask=MASK),
    )
    write_manifest(folder, Manifest("rows", record, (), {"chat": True}, (entry,)))


def write_packed(folder, rows=24, write=write_rows):
    """Write a packed folder with a training and a validation part, and the tokenizer."""
    write(folder / "train", rows)
    write(folder / "validation", 8)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    parts = {part: read_manifest_file(folder / part) for part in ("train", "validation")}
    fingerprints = {part: fields["fingerprint"] for part, fields in parts.items()}
    write_manifest_file(folder, {"kind": "parts", "parts": fingerprints})
    return folder


def tiny_recipe(packed, *changes):
    """Return the tiny recipe on a dataset, with changes as --set takes them."""
    tables = tomllib.loads(RECIPE)
    for change in (f"data.path={packed}", *changes):
        apply_change(tables, change)
    return recipe_from(tables, "tiny")
