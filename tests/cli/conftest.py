"""What verbs are run on: a model with a tokenizer of bytes, a trained tokenizer, a corpus."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.corpus import TEXT
from tests.conftest import command_environment
from tests.data.conftest import TRAINING_TEXT

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "illada-tiny"
CONTROLS = {"<[BOS]>": 0, "<[PAD]>": 1, "<[EOS]>": 2, "<[MASK]>": 5, "<|eot_id|>": 262}
FIRST_BYTE_ID = 6


def byte_letters():
    """Return the letter that stands for each byte in byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(rest)) for byte in range(256)]


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory):
    """A model folder whose tokenizer makes byte b the id b + 6; its context is 512 tokens."""
    folder = tmp_path_factory.mktemp("served") / "model"
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
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tokenizer.json that the verb itself has trained."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TRAINING_TEXT)
    command = [sys.executable, "-m", "illada_cli", "tokenize", "text.txt"]
    options = ["--train-vocab", "400", "-o", "tokenizer.json"]
    done = subprocess.run(
        [*command, *options], cwd=folder, env=command_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "tokenizer.json\n"), done.stderr
    return folder


@pytest.fixture
def corpus(tmp_path, trained):
    """Two files of text in corpus/, and the trained tokenizer beside the folder."""
    for path in trained.glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "corpus").mkdir()
    for name in ("a.txt", "b.md"):
        (tmp_path / "corpus" / name).write_text(TEXT * 20)
    return tmp_path / "corpus"
