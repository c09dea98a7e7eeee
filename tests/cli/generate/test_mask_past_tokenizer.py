"""A mask id just past the tokenizer (SMDM's 32000 of 32,000, MDLM's 50257) works everywhere."""

import json
import shutil

import pytest

PAST = 263  # the byte model's ids end with 262


@pytest.fixture
def model(byte_model, tmp_path):
    """The byte model without a mask token: its configuration names an id past all tokens."""
    folder = tmp_path / "model"
    shutil.copytree(byte_model, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    tokens = content["added_tokens"]
    content["added_tokens"] = [token for token in tokens if token["content"] != "<[MASK]>"]
    del content["model"]["vocab"]["<[MASK]>"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((folder / "config.json").read_text())
    config["mask_token_id"] = PAST
    (folder / "config.json").write_text(json.dumps(config))
    return folder


OPTIONS = ("--max-new-tokens", "24", "--block-length", "5", "--seed", "3")


@pytest.mark.parametrize("canvas", ["variable", "fixed"])
@pytest.mark.parametrize("chat", [(), ("--chat",)])
def test_streamed_and_plain_text_are_the_same(illada, model, canvas, chat):
    asked = ("generate", "--ckpt", model, "Hello", *OPTIONS, "--canvas", canvas, *chat)
    plain = illada(*asked).stdout
    assert illada(*asked, "--stream").stdout == plain
    answer = json.loads(illada(*asked, "--json").stdout)
    assert answer["text"] + "\n" == plain
    assert PAST not in answer["output_ids"]


def test_gaps_traces_chats_and_scores_work(illada, model, tmp_path):
    asked = ("generate", "--ckpt", model, *OPTIONS)
    filled = illada(*asked, "--infill", "a[MASK:3]b", "--trace", "trace.jsonl").stdout
    assert filled.startswith("a")
    assert len((tmp_path / "trace.jsonl").read_text().splitlines()) == 3
    said = illada("chat", "--ckpt", model, *OPTIONS, stdin="Hello\n").stdout
    assert said == illada(*asked, "--chat", "Hello").stdout
    (tmp_path / "items.jsonl").write_text('{"query": "a", "choices": ["b", "c"], "gold": 0}\n')
    assert illada("score", "--ckpt", model, "--choices", "items.jsonl").returncode == 0
