"""Several machines: two launchers on this one, and what Slurm says of a job."""

import json
import os
import signal
import socket

import pytest

from illada_cli.ranks import Machines
from illada_cli.train.machines import find_machines, first_host, slurm_machines
from illada_cli.train.options import PretrainOptions
from illada_core.errors import UsageError
from illada_core.training.recipe.files import load_recipe
from tests.cli.train.test_nproc import ENDLESS, children
from tests.cli.train.test_pretrain import losses, wait_for_lines
from tests.training.on_ranks import free_port
from tests.training.test_loop import run_training

JOB = {
    "SLURM_NNODES": "4",
    "SLURM_NODEID": "2",
    "SLURM_JOB_ID": "1234567",
    "SLURM_JOB_NODELIST": "gpu[003-005,9],login1",
}


@pytest.fixture
def start_both(start_illada, tiny):
    """Start a run on two machines, both of which are this one; return their launchers."""

    def start(*changes, more=()):
        asked = ("pretrain", tiny(*changes), "-o", "run", "-q", "--nproc", "1", "--nodes", "2")
        meet = ("--meet", f"127.0.0.1:{free_port()}")
        return [start_illada(*asked, "--node", number, *meet, *more) for number in "01"]

    return start


def test_two_machines_learn_what_one_process_learns(start_both, tmp_path):
    first, second = start_both()
    assert first.communicate(timeout=120) == ("run/model\n", "")
    assert second.communicate(timeout=120) == ("", "")
    assert (first.returncode, second.returncode) == (0, 0)
    run_training(load_recipe(tmp_path / "tiny.toml"), tmp_path / "alone")
    alone, together = (losses(tmp_path / name) for name in ("alone", "run"))
    for one, two in zip(alone, together, strict=True):
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["starts"][0]["world"] == 2


def test_a_signal_to_one_machine_stops_all_in_good_order(start_both, tmp_path):
    first, second = start_both(*ENDLESS)
    wait_for_lines(tmp_path / "run", 3, first)
    second.send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (143, 143)
    last = losses(tmp_path / "run")[-1]["step"]
    assert told[0][1].splitlines()[0] == f"illada: stopped after step {last}"


def test_both_machines_start_again_when_a_rank_of_one_is_lost(start_both, tmp_path):
    changes = ("run.total_tokens=6400", "log.curves=false", "checkpoint.every_steps=4")
    first, second = start_both(*changes, more=("--restarts", "1"))
    wait_for_lines(tmp_path / "run", 9, first)
    os.kill(children(second)[0], signal.SIGKILL)
    told = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), told
    assert "lost touch with other ranks: starting again" in told[0][1]
    host = socket.gethostname()
    assert f"rank 1 on {host} was ended by SIGKILL: starting again" in told[1][1]
    assert [line["step"] for line in losses(tmp_path / "run") if line["kind"] == "step"] == list(
        range(1, 51)
    )


def test_the_code_of_a_run_that_diverges_comes_out_on_all_machines(start_both):
    more = ("--restarts", "2")
    both = start_both("optimizer.peak_lr=1e30", "run.max_bad_steps=2", more=more)
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [3, 3], told


def test_slurm_says_which_machine_this_is_and_where_they_meet():
    assert slurm_machines(JOB) == Machines(4, 2, "gpu003", 20_000 + 1234567 % 12_000)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("gpu[003-005,9],login1", "gpu003"),
        ("rack[1-2]gpu[4-8]", "rack1gpu4"),
        ("c1-[17]", "c1-17"),
    ],
)
def test_the_first_machine_is_found_in_slurms_list(hosts, first):
    assert first_host(hosts) == first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SLURM_NODEID": ""}, "SLURM_NODEID is not set"),
        ({"SLURM_NTASKS": "32"}, "32 tasks on 4 machines"),
    ],
)
def test_a_job_that_is_not_one_task_a_machine_is_a_usage_error(changes, said):
    with pytest.raises(UsageError, match=said):
        slurm_machines(JOB | changes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nodes": "2"}, "--nodes 2 needs --node and --meet"),
        ({"nodes": "two"}, "--nodes must be a number of machines or auto"),
        ({"node": 1}, "--node and --meet are for several machines"),
        ({"nodes": "2", "node": 2, "meet": "a:1"}, "--node 2 of 2 machines"),
        ({"nodes": "2", "node": 0, "meet": "host"}, "--meet must be HOST:PORT"),
        ({"nodes": "auto"}, "--nodes auto asks Slurm, but SLURM_NNODES is not set"),
    ],
)
def test_machines_that_cannot_meet_are_a_usage_error(monkeypatch, options, said):
    for name in JOB:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=said):
        find_machines(PretrainOptions(recipe="tiny", **options), options.get("nodes", "1"))
