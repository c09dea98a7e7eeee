"""Two ranks are one rank: the same rows, the same noise, the same losses up to rounding."""

import json
import socket
import subprocess
import sys

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.training.parallel import buckets, choose_device
from illada_core.training.recipe_files import to_toml
from tests.conftest import command_environment


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def train_on(world, recipe_file, run):
    """Run `illada pretrain` as torchrun does, in `world` processes."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    command = [sys.executable, "-m", "illada_cli", "pretrain", str(recipe_file), "-o", str(run)]
    processes = [
        subprocess.Popen(
            command,
            env=command_environment(**place, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * world, told
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return told, lines


@pytest.mark.parametrize("rows", [4, 3])
def test_two_ranks_are_one_rank(recipe, tmp_path, rows):
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(recipe(f"batch.rows={rows}", "run.total_tokens=1152")))
    _, alone = train_on(1, file, tmp_path / "alone")
    told, together = train_on(2, file, tmp_path / "together")
    assert len(alone) == len(together)
    for one, two in zip(alone, together, strict=True):
        assert (one["kind"], one["step"], one["tokens"]) == (
            two["kind"],
            two["step"],
            two["tokens"],
        )
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)
        assert two.get("grad_norm", 0.0) == pytest.approx(one.get("grad_norm", 0.0), rel=1e-3)
    assert told[0][0].strip() == str(tmp_path / "together" / "model")
    assert told[1] == ("", "")


def test_buckets_hold_every_parameter_once_in_order():
    parameters = [torch.zeros(size) for size in (1 << 24, 5, 1 << 25, 7)]
    found = list(buckets(parameters))
    assert [len(bucket) for bucket in found] == [1, 2, 1]
    assert [id(each) for bucket in found for each in bucket] == [id(each) for each in parameters]


@pytest.mark.parametrize("wanted", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_devices_that_are_not_there_are_usage_errors(wanted):
    with pytest.raises(UsageError, match=r"run\.device"):
        choose_device(wanted, local_rank=0)
