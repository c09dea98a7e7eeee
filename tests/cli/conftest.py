"""What verbs are run on: a trained tokenizer, and a corpus."""

import subprocess
import sys

import pytest

from tests.cli.corpus import TEXT
from tests.conftest import command_environment
from tests.phrases import TRAINING_TEXT


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
