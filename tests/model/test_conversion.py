"""Folders written anew hold the same model, say what it is, and carry their tokenizer along."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from illada_core.errors import UsageError
from illada_core.model.configfile import read_config
from illada_core.model.conversion import Asked, convert, differing_logits, plan_conversion
from illada_core.model.families.family import Reading
from illada_core.model.weights import load_model
from illada_core.text.tokenizer import load_tokenizer
from tests.causal_model import write_causal_model
from tests.conftest import REPO

FIXTURES = REPO / "tests" / "fixtures"


def converted(source, folder, **asked):
    plan = plan_conversion(source, Asked(**asked))
    convert(plan, folder)
    return plan


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("illada-tiny", {"layout": "llada"}),
        ("llada-tiny", {"layout": "illada", "shard_bytes": 200_000}),
        ("dream-tiny", {"dtype": "bfloat16"}),
        ("qwen2-tiny", {"layout": "dream", "reading": Reading("full")}),
        ("smollm2-tiny", {"layout": "illada", "reading": Reading("full", shift=False)}),
        ("llama3-tiny", {"reading": Reading("full")}),
        ("qwen3-tiny", {"adds_mask": True}),
    ],
)
def test_a_copy_is_the_same_model_bit_for_bit(name, asked, tmp_path):
    plan = converted(FIXTURES / name, tmp_path / "copy", **asked)
    assert differing_logits(plan, tmp_path / "copy") == 0
    read = read_config(tmp_path / "copy")
    assert replace(read, initializer_range=None) == replace(plan.after, initializer_range=None)
    if "shard_bytes" in asked:
        assert len(list((tmp_path / "copy").glob("model-*.safetensors"))) > 2


def test_a_difference_is_found(tmp_path):
    plan = converted(FIXTURES / "qwen2-tiny", tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.self_attn.v_proj.bias"][3] += 0.01
    save_file(tensors, file)
    assert differing_logits(plan, tmp_path / "copy") > 1e-5


def test_a_mask_token_gets_a_new_row_that_is_the_mean(tmp_path):
    source = tmp_path / "model"
    write_causal_model(source)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<[MASK]>"]
    del tokenizer["model"]["vocab"]["<[MASK]>"]
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [2], "top_k": 9}))
    plan = converted(source, tmp_path / "copy", adds_mask=True)
    size = load_tokenizer(source).vocab_size
    assert plan.new_mask_id == size
    copied = load_tokenizer(tmp_path / "copy")
    assert copied.special.mask == size
    assert copied.encode("a<|mask|>b") == load_tokenizer(source).encode("a<|mask|>b")
    assert json.loads((tmp_path / "copy/generation_config.json").read_text())["top_k"] == 9
    before, after = load_model(source), load_model(tmp_path / "copy")
    assert after.config.mask_id == size
    assert (after.config.attention, after.config.shift) == ("causal", True)
    table = before.embedding.weight
    torch.testing.assert_close(after.embedding.weight[size], table[:size].mean(0))
    kept = [number for number in range(len(table)) if number != size]
    assert torch.equal(after.embedding.weight[kept], table[kept])
    with pytest.raises(UsageError, match="has a mask token"):
        plan_conversion(tmp_path / "copy", Asked(adds_mask=True))


def test_without_a_spare_row_the_table_grows_and_so_does_a_separate_head(tmp_path):
    plan = converted(FIXTURES / "llama3-tiny", tmp_path / "copy", adds_mask=True)
    assert (plan.new_mask_id, plan.after.vocab_size) == (96, 97)
    after = load_file(tmp_path / "copy" / "model.safetensors")
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        assert after[key].shape == (97, 32)
        torch.testing.assert_close(after[key][96], after[key][:96].mean(0))


def test_what_a_layout_cannot_say_is_told_before_anything_is_written(tmp_path):
    for asked, told in (
        ({"layout": "llama"}, "cannot say that the model's qkv_bias is True"),
        ({"layout": "dream"}, "the dream layout cannot say causal attention"),
        ({"layout": "gpt2"}, "there is no layout gpt2"),
        ({"dtype": "float8"}, "unknown dtype"),
    ):
        with pytest.raises(UsageError, match=told):
            plan_conversion(FIXTURES / "qwen2-tiny", Asked(**asked))


def test_a_card_says_how_numbers_are_read(tmp_path):
    source = Path(shutil.copytree(FIXTURES / "dream-tiny", tmp_path / "dream"))
    converted(source, tmp_path / "copy", writes_card=True)
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "Attention: full" in card
    assert "speaks of the next token" in card
    with pytest.raises(UsageError, match=r"holds README\.md, which an export would delete"):
        converted(source, tmp_path / "copy")
