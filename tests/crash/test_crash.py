"""Law 1 to the last operation on a file, at some of them; `make crash` stops at every one."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPO, command_environment
from tests.crash.process import NO_SHIM, has_shim

pytestmark = pytest.mark.skipif(not has_shim(), reason=NO_SHIM)
NAMES = ("tokenize --train-vocab", "pack --chat --fresh", "pretrain", "score -o", "generate -o")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Sweep some operations of some commands; return what was told, and the operations of each."""
    folder = tmp_path_factory.mktemp("operations")
    options = ("--some", "--record", str(folder), *NAMES)
    command = [sys.executable, "-m", "tests.crash.sweep", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPO, env=command_environment()
    )
    return done, {name: (folder / name).read_text().splitlines() for name in os.listdir(folder)}


def test_a_command_that_was_stopped_anywhere_and_is_run_again_leaves_what_it_should(swept):
    done, operations = swept
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert operations.keys() == set(NAMES)


def test_what_a_checkpoint_stands_for_is_on_the_disk_before_it_has_its_name(swept):
    """Its files, the lines of the metrics up to it, and the names of all folders around it."""
    operations = swept[1]["pretrain"]
    named = [n for n, told in enumerate(operations) if told.startswith("rename out/checkpoints/st")]
    assert len(named) == 2
    for at in named:
        step = operations[at].rpartition("/")[2]
        before = operations[:at]
        lines = [n for n, told in enumerate(before) if told == "write out/metrics.jsonl"]
        assert lines[-1] < rindex(before, "sync out/metrics.jsonl")
        for name in ("state.json", "optimizer.safetensors", "model/model.safetensors", "model"):
            assert f"sync out/checkpoints/.partial-{step}/{name}" in before
        assert operations[at + 1] == "sync out/checkpoints"
        assert before[before.index("mkdir out") + 1] == "sync ."
        assert before[before.index("mkdir out/checkpoints") + 1] == "sync out"


def test_every_file_is_on_the_disk_before_it_has_its_name(swept):
    for told in swept[1].values():
        for at, operation in enumerate(told):
            kind, _, name = operation.partition(" ")
            if kind == "rename" and "/.partial-" not in name and f"write {name}.partial" in told:
                assert rindex(told[:at], f"write {name}.partial") < rindex(
                    told[:at], f"sync {name}.partial"
                )
                folder = name.rpartition("/")[0]
                assert told[at + 1] == f"sync {folder}"


def rindex(values, value):
    return len(values) - 1 - values[::-1].index(value)
