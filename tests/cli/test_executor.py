"""`--executor ray`: the bytes of one process, also where workers are killed (extra: cluster).

`make cluster` runs this in an environment of its own.
"""

import json
import os
import signal
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from illada_cli import executor
from illada_cli.executor import run_parts
from illada_cli.tokenize.options import TokenizeOptions
from illada_cli.tokenize.run import part_steps
from illada_core.errors import DataError
from tests.cli.corpus import TOKENIZE
from tests.conftest import REPO

MANY = ("--shard-tokens", "60")
KILLED = Path("killed")  # there once a worker has been


def killed_once(asked, portion):
    """Do a part; the worker of part 1 ends by SIGKILL in the middle of its first try."""
    for number, amount in enumerate(part_steps(asked, portion)):
        if portion.index == 1 and number == 1 and not KILLED.exists():
            KILLED.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield amount


def always_killed(asked, portion):
    yield 0.0
    os.kill(os.getpid(), signal.SIGKILL)


def refusing(asked, portion):
    yield 0.0
    raise DataError(f"part {portion} is damaged", "mend it")


@pytest.fixture
def ray(monkeypatch):
    """Ray with two workers on this machine, which find this checkout."""
    found = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begin = found.init
    monkeypatch.setattr(found, "init", lambda **options: begin(num_cpus=2, **options))
    yield found
    found.shutdown()


@pytest.fixture
def many(corpus):
    """A corpus of six partitions."""
    for name in "cdef":
        (corpus / f"{name}.txt").write_bytes((corpus / "a.txt").read_bytes())
    return corpus


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def asked_of(**changes):
    asked = TokenizeOptions(["corpus"], Path("tokenizer.json"), Path("there"), shard_tokens=60)
    return replace(asked, quiet=True, **changes)


def parts_by(steps):
    run_parts(steps, asked_of(), Path("there"), 6, 1.0, "B")


def test_parts_on_a_cluster_make_the_bytes_of_one_process(many, illada, tmp_path):
    pytest.importorskip("ray")
    illada(*TOKENIZE, "-o", "here", *MANY)
    done = illada(*TOKENIZE, "-o", "there", *MANY, "--executor", "ray", RAY_ADDRESS=None)
    assert done.stdout == "there\n"
    assert "ray: 6 parts, " in done.stderr
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    rows = ("--sequence-length", "16", "--holdout", "0.2")
    illada("pack", "here", "-o", "packed", *rows)
    packed = illada("pack", "there", "-o", "rows", *rows, "--executor", "ray", "--json")
    assert json.loads(packed.stdout)["output"] == "rows"
    assert files_of(tmp_path / "rows") == files_of(tmp_path / "packed")


def test_the_part_of_a_killed_worker_is_done_again(many, illada, tmp_path, monkeypatch, ray):
    illada(*TOKENIZE, "-o", "here", *MANY)
    monkeypatch.chdir(tmp_path)
    parts_by(killed_once)
    assert KILLED.exists()
    illada(*TOKENIZE, "-o", "there", *MANY, "--merge")
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_a_part_that_fails_ends_all_with_its_sentence(many, tmp_path, monkeypatch, ray):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^part \d/6 is damaged$") as error:
        parts_by(refusing)
    assert error.value.hint == "mend it"
    monkeypatch.setattr(executor, "TRIES", 2)
    with pytest.raises(DataError, match=r"^part \d/6 was lost: "):
        parts_by(always_killed)


def test_ctrl_c_ends_all_and_keeps_what_is_finished(many, illada, start_illada, tmp_path):
    pytest.importorskip("ray")
    for number in range(40):
        (many / f"g{number}.txt").write_bytes((many / "a.txt").read_bytes() * 100)
    illada(*TOKENIZE, "-o", "here", *MANY)
    command = (*TOKENIZE, "-o", "there", *MANY, "--executor", "ray")
    process = start_illada(*command, RAY_ADDRESS=None)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "there").glob("shard-*.zst")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=120)
    assert process.returncode == 130, talk
    assert "there is not finished" in talk
    assert not (tmp_path / "there" / "manifest.json").exists()
    illada(*command[:-2])
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--part", "0/2"), "--executor ray does all parts and merges them"),
        (("--merge",), "--executor ray does all parts and merges them"),
    ],
)
def test_what_a_cluster_cannot_mean_is_refused(corpus, illada, options, said):
    wrong = illada(*TOKENIZE, "-o", "there", "--executor", "ray", *options, code=2)
    assert f"illada: {said}" in wrong.stderr


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is here")
def test_without_ray_a_sentence_says_so(corpus, illada):
    wrong = illada(*TOKENIZE, "-o", "there", "--executor", "ray", code=2)
    assert "illada: --executor ray needs ray\n\nhint: pip install 'illada[cluster]'" in wrong.stderr
