"""Ranks: which devices they take, and how a signal to one of them stops all."""

import json
import signal
import sys
import time

import pytest

from illada_core.errors import LostRankError, UsageError
from illada_core.model.finding import newest_checkpoint
from illada_core.training.loop import decide_decay
from illada_core.training.parallel import Ranks, choose_device, rely_on_others
from illada_core.training.recipe.files import to_toml
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from tests.training.on_ranks import start_all
from tests.training.test_loop import CPU


def start_on(world, recipe_file, run):
    """Start `illada pretrain` as torchrun does, in `world` processes."""
    command = [sys.executable, "-m", "illada_cli", "pretrain", str(recipe_file), "-o", str(run)]
    return start_all(world, command)


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
    with open_session(prepare(asked), tmp_path / "run", CPU, fresh=False) as session:
        assert len(list(decide_decay(session, requested=True))) == 1
        session.ranks = Ranks(rank=1, world=2, device=CPU.device)
        assert list(decide_decay(session, requested=True)) == []


@pytest.mark.parametrize("wanted", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_devices_that_are_not_there_are_usage_errors(wanted):
    with pytest.raises(UsageError, match=r"run\.device"):
        choose_device(wanted, local_rank=0)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("[/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed", LostRankError),
        ("mat1 and mat2 shapes cannot be multiplied", RuntimeError),
    ],
)
def test_the_loss_of_a_rank_is_told_from_other_errors(said, kind):
    """It comes out of any pass of a model in shards."""
    with pytest.raises(kind, match=r"Connection closed|shapes"), rely_on_others():
        raise RuntimeError(said)
