"""What every test may use: illada as a real subprocess, a tokenizer, tokens, a tiny model."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from illada_core.data.build.vocabulary import train_vocabulary, write_vocabulary
from tests.byte_model import write_byte_model
from tests.phrases import TRAINING_TEXT

# One thread: the tensors are tiny, and waiting for a second core costs far more than it gives.
os.environ["OMP_NUM_THREADS"] = "1"

# What runs in the background ignores SIGINT, and hands that on to every program it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = Path(__file__).resolve().parents[1]


def command_environment(**changes):
    """Return an environment in which `python -m illada_cli` runs this checkout, offline."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPO),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
        "TERM": "dumb",
        **changes,
    }
    return {name: value for name, value in environment.items() if value is not None}


@pytest.fixture
def illada(tmp_path):
    """Run `illada ARGUMENTS` in an empty folder and return the finished process (text mode)."""

    def run(*arguments, code=0, stdin="", cwd=tmp_path, timeout=300, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "illada_cli", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=command_environment(**environment),
            timeout=timeout,
        )
        assert done.returncode == code, f"exit {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def start_illada(tmp_path):
    """Start `illada ARGUMENTS` and return the running process, for tests that send signals."""
    running = []

    def start(*arguments, cwd=tmp_path, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "illada_cli", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=command_environment(**environment),
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def write_tokens(tmp_path):
    """Write documents (arrays of ids) to a token dataset, numbers as records; return it open."""
    import numpy as np

    from illada_core.data.store.dataset import open_dataset
    from illada_core.data.store.manifest import InputFile, Manifest, write_manifest
    from illada_core.data.store.shards import TokenShardWriter, shard_name
    from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord

    def write(documents, vocab_size, shards=1, folder=tmp_path / "tokens"):
        folder.mkdir()
        entries = []
        for shard, records in enumerate(np.array_split(np.arange(len(documents)), shards)):
            parts = [documents[record] for record in records]
            ids = np.concatenate([np.empty(0, np.uint32), *parts])
            ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
            path = folder / shard_name(shard, vocab_size)
            with TokenShardWriter(path, vocab_size, "job") as writer:
                writer.add_documents(ids, ends, np.zeros_like(records), records)
                entries.append(writer.close())
        manifest = Manifest(
            kind="documents",
            tokenizer=TokenizerRecord(
                "0" * 64, vocab_size, SpecialIds(bos=0, pad=1, eos=2, mask=5)
            ),
            inputs=(InputFile("text", 1, "1" * 64),),
            settings={},
            shards=tuple(entries),
        )
        write_manifest(folder, manifest)
        return open_dataset(folder)

    return write


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    """The path of a tokenizer.json of 400 tokens, with its configuration beside it."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_vocabulary(train_vocabulary([TRAINING_TEXT], 400), path)
    return path


@pytest.fixture
def tokenizer_folder(tokenizer_file, tmp_path):
    """Return a function that makes a folder of the small tokenizer with a chat template."""

    def make(template):
        folder = tmp_path / "tokenizer"
        folder.mkdir()
        for file in tokenizer_file.parent.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        return folder

    return make


@pytest.fixture
def examples():
    """Conversations with text that looks like control tokens."""
    from tests.text.chat import random_messages  # which needs the phrases above

    generator = random.Random(0)
    return [random_messages(generator) for _ in range(60)]


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory):
    """The folder of a tiny model whose tokenizer makes byte b the id b + 6."""
    folder = tmp_path_factory.mktemp("served") / "model"
    write_byte_model(folder)
    return folder
