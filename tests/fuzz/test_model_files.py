"""Whatever the files of a model say: it is served, or one sentence names a file of it."""

import json
import shutil
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from illada_core.inference.checkpoint import open_checkpoint
from illada_core.text.messages import Dialogue, Message
from tests.byte_model import TINY
from tests.fuzz.hostile import decode_or_refuse, fuzzed, hostile_bytes, hostile_json
from tests.text.small_tokenizers import KINDS, write_small

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
GENERATION = {"block_length": 32, "transformers_version": "4.57.1"}
TEMPLATES = {"chat_template": [{"name": "default", "template": TEMPLATE}]}
CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": {"content": "<s>", "special": True},
    "eos_token": "</s>",
    "add_bos_token": True,
    "chat_template": TEMPLATE,
}
FILES = [
    *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.json"),
]


@pytest.fixture(scope="module", params=sorted(KINDS))
def served(request, tmp_path_factory):
    """A model's folder with every file that is read beside its weights."""
    folder = write_small(tmp_path_factory.mktemp("served") / "model", request.param)
    content = json.loads((folder / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    top = max(max(ids.values()) + 1, len(content["model"]["vocab"]))
    shutil.copyfile(TINY / "model.safetensors", folder / "model.safetensors")
    config = json.loads((TINY / "config.json").read_text())
    special = {"bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"], "pad_token_id": None}
    vocab_size = {"vocab_size": resized(folder / "model.safetensors", top + 5)}
    (folder / "config.json").write_text(json.dumps({**config, **special, **vocab_size}))
    generation = {**GENERATION, "eos_token_id": [ids["</s>"], ids["<|eot_id|>"]]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    added = {str(top + 1): {"content": "<more>", "special": True}}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**CONFIG, "added_tokens_decoder": added})
    )
    (folder / "special_tokens_map.json").write_text('{"eos_token": "</s>"}')
    (folder / "added_tokens.json").write_text(json.dumps({"<new>": top}))
    (folder / "chat_template.json").write_text(json.dumps(TEMPLATES))
    serve(folder)  # as it is it can be served
    return folder


def resized(path, vocab_size):
    """Give the tables of a model as many rows, and return how many."""
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.shape[0] == 320:
            tensors[name] = tensor.repeat(2, 1)[:vocab_size].clone()
    save_file(tensors, path)
    return vocab_size


def serve(folder):
    """Do with a model's folder what verbs do with it."""
    checkpoint = open_checkpoint(folder)
    checkpoint.load()
    tokenizer = checkpoint.require_tokenizer()
    ids = checkpoint.encode_text("Hello, é <|eot_id|> world")
    tokenizer.encode_rest("Hello</s>, é")
    tokenizer.cuts_cleanly("Hello ", "world")
    tokenizer.settled(ids)
    tokenizer.decode(range(min(tokenizer.vocab_size, 400)), keep_special=True)
    said = ("user", "Hello"), ("assistant", "a"), ("user", "b")
    checkpoint.encode_chat(Dialogue(tuple(Message(role, text) for role, text in said)))


@pytest.mark.parametrize("name", FILES)
@fuzzed()
@given(data=st.data())
def test_any_file_of_a_model(served, name, data):
    before = (served / name).read_bytes()
    try:
        (served / name).write_text(data.draw(hostile_json(json.loads(before))))
        decode_or_refuse(lambda: serve(served), served)
    finally:
        (served / name).write_bytes(before)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A model in two files with an index."""
    folder = tmp_path_factory.mktemp("sharded") / "model"
    shutil.copytree(TINY.with_name("llada-tiny"), folder)
    return folder


@fuzzed(30)
@given(data=st.data())
def test_any_index_of_weights(sharded, data):
    path = sharded / "model.safetensors.index.json"
    before = path.read_bytes()
    try:
        path.write_text(data.draw(hostile_json(json.loads(before))))
        decode_or_refuse(lambda: open_checkpoint(sharded).load(), sharded)
    finally:
        path.write_bytes(before)


@fuzzed(40)
@given(data=st.data())
def test_any_header_of_weights(sharded, data):
    path = sharded / "model-00001-of-00002.safetensors"
    before = path.read_bytes()
    (size,) = struct.unpack("<Q", before[:8])
    header, rest = json.loads(before[8 : 8 + size]), before[8 + size :]
    if data.draw(st.booleans()):
        text = data.draw(hostile_json(header)).encode("utf-8", "surrogatepass")
        changed = struct.pack("<Q", len(text)) + text + rest
    else:
        changed = data.draw(hostile_bytes(before[: 8 + size])) + rest
    try:
        path.write_bytes(changed)
        decode_or_refuse(lambda: open_checkpoint(sharded).load(), sharded)
    finally:
        path.write_bytes(before)
