"""Two ranks are one rank: the same rows, the same noise, the same losses up to rounding."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.model.finding import newest_checkpoint
from illada_core.training.loop import decide_decay
from illada_core.training.parallel import Ranks, buckets, choose_device
from illada_core.training.recipe.files import to_toml
from illada_core.training.session import opened
from illada_core.training.task import prepare
from tests.conftest import command_environment
from tests.training.test_loop import CPU
from tests.training.tiny import tiny_recipe, write_conversations, write_packed

TURNS = ("objective.mask=turn", "objective.normalize=length", "run.total_tokens=768")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_on(world, recipe_file, run):
    """Start `illada pretrain` as torchrun does, in `world` processes."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    command = [sys.executable, "-m", "illada_cli", "pretrain", str(recipe_file), "-o", str(run)]
    return [
        subprocess.Popen(
            command,
            env=command_environment(**place, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def train_on(world, recipe_file, run):
    """Train in `world` processes; return what each said, and the metrics."""
    processes = start_on(world, recipe_file, run)
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


def test_two_ranks_are_one_rank_whatever_can_be_hidden(tmp_path):
    packed = write_packed(tmp_path / "chats", write=write_conversations)
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(tiny_recipe(packed, "batch.rows=3", *TURNS)))
    (_, alone), (_, together) = (train_on(n, file, tmp_path / f"run{n}") for n in (1, 2))
    for one, two in zip(alone, together, strict=True):
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)


@pytest.mark.parametrize(
    ("rank", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)]
)
def test_a_signal_to_one_rank_stops_all_with_its_code(recipe, tmp_path, rank, number):
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(recipe("run.total_tokens=1e8", "log.curves=false")))
    processes = start_on(2, file, tmp_path / "run")
    try:
        metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
        while not metrics.exists() or metrics.stat().st_size == 0:
            assert time.monotonic() < deadline, "no step in time"
            time.sleep(0.01)
        processes[rank].send_signal(number)
        told = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [128 + number] * 2, told
    last = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert f"illada: stopped after step {last}" in told[0][1]
    assert told[1] == ("", "")
    assert newest_checkpoint(tmp_path / "run").name == f"step-{last:09d}"


def test_a_request_that_cannot_be_met_is_noticed_once(recipe, tmp_path):
    """Each rank meets the request; only one of them talks."""
    asked = recipe("schedule.decay=none", "run.total_tokens=256", "schedule.decay_share=0")
    with opened(prepare(asked), tmp_path / "run", CPU, fresh=False) as session:
        assert len(list(decide_decay(session, requested=True))) == 1
        session.ranks = Ranks(rank=1, world=2, device=CPU.device)
        assert list(decide_decay(session, requested=True)) == []


def test_buckets_hold_every_parameter_once_in_order():
    parameters = [torch.zeros(size) for size in (1 << 24, 5, 1 << 25, 7)]
    found = list(buckets(parameters))
    assert [len(bucket) for bucket in found] == [1, 2, 1]
    assert [id(each) for bucket in found for each in bucket] == [id(each) for each in parameters]


@pytest.mark.parametrize("wanted", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_devices_that_are_not_there_are_usage_errors(wanted):
    with pytest.raises(UsageError, match=r"run\.device"):
        choose_device(wanted, local_rank=0)
