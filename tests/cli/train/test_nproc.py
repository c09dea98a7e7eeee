"""`--nproc N`: several ranks of one command, and their fate as one exit code."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from illada_core.model.finding import newest_checkpoint
from illada_core.training import run_folder
from tests.cli.train.test_pretrain import losses, wait_for_lines

ENDLESS = ("run.total_tokens=1e8", "log.curves=false")


def children(process):
    """Return the process ids of the ranks, rank 0 first."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not listed.parent.exists():
        pytest.skip("the system does not list children")
    return [int(number) for number in listed.read_text().split()]


def has_ended(number):
    """Tell whether a process is gone, or only waits to be forgotten."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_two_processes_give_the_losses_of_one_and_talk_as_one(illada, tiny, tmp_path):
    asked = ("pretrain", tiny("validation.every_steps=5"))
    illada(*asked, "-o", "alone", "-q")
    done = illada(*asked, "-o", "together", "--nproc", "2")
    assert done.stdout == "together/model\n"
    assert done.stderr.count("training on cpu") == 1
    assert "warning" not in done.stderr.lower()
    alone, together = (losses(tmp_path / name) for name in ("alone", "together"))
    assert [line["kind"] for line in alone] == [line["kind"] for line in together]
    for one, two in zip(alone, together, strict=True):
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)
    environment = json.loads((tmp_path / "together" / "environment.json").read_text())
    assert environment["starts"][0]["world"] == 2
    assert environment["starts"][0]["command"][-2:] == ["--nproc", "2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_each_rank_once_and_its_code_comes_out(
    illada, start_illada, tiny, tmp_path, number
):
    process = start_illada("pretrain", tiny(*ENDLESS), "-o", "run", "--nproc", "2", "-q")
    wait_for_lines(tmp_path / "run", 3, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (128 + number, "")
    last = losses(tmp_path / "run")[-1]["step"]
    assert stderr.splitlines() == [
        "illada: stopping after this step and saving, again to quit now",
        f"illada: stopped after step {last}",
        "",
        "hint: to go on: illada pretrain --resume run, or the same command again",
    ]
    assert newest_checkpoint(tmp_path / "run").name == f"step-{last:09d}"


def test_a_second_signal_leaves_at_once(start_illada, tiny, tmp_path):
    slow = ("batch.rows=1000", "batch.micro_rows=1", "checkpoint.every_steps=1")
    process = start_illada("pretrain", tiny(*ENDLESS, *slow), "-o", "run", "--nproc", "2", "-q")
    wait_for_lines(tmp_path / "run", 1, process)
    time.sleep(0.3)
    ranks, began = children(process), time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert time.monotonic() - began < 5.0
    assert all(map(has_ended, ranks))


def test_a_second_signal_ends_ranks_that_do_not_answer(start_illada, tiny, tmp_path):
    process = start_illada("pretrain", tiny(*ENDLESS), "-o", "run", "--nproc", "2", "-q")
    wait_for_lines(tmp_path / "run", 1, process)
    ranks = children(process)
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert all(map(has_ended, ranks))


def test_a_rank_that_is_killed_ends_the_others_and_is_named(start_illada, tiny, tmp_path):
    """With a checkpoint underway, of which nothing may be found."""
    asked = tiny(*ENDLESS, "checkpoint.every_steps=1")
    process = start_illada("pretrain", asked, "-o", "run", "--nproc", "2", "-q")
    wait_for_lines(tmp_path / "run", 8, process)
    os.kill(children(process)[1], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (1, "")
    assert f"illada: rank 1 on {socket.gethostname()} was ended by SIGKILL" in stderr
    assert "internal error" not in stderr
    assert "Traceback" not in stderr
    run_folder.read_checkpoint(newest_checkpoint(tmp_path / "run"))


def test_ranks_end_with_their_launcher(start_illada, tiny, tmp_path):
    process = start_illada("pretrain", tiny(*ENDLESS), "-o", "run", "--nproc", "2", "-q")
    wait_for_lines(tmp_path / "run", 3, process)
    ranks, deadline = children(process), time.monotonic() + 30
    process.kill()
    while not all(map(has_ended, ranks)):
        assert time.monotonic() < deadline, "a rank outlives its launcher"
        time.sleep(0.05)


def test_what_every_rank_would_say_is_said_once(illada, tiny):
    recipe = tiny()
    done = illada("pretrain", recipe, "--nproc", "2", "--data", "nowhere", code=1)
    assert done.stderr.count("illada: no dataset at nowhere") == 1
    changes = ("--set", "optimizer.peak_lr=1e30", "--set", "run.max_bad_steps=2")
    done = illada("pretrain", recipe, "-q", "--nproc", "2", "-o", "run", *changes, code=3)
    assert done.stderr.count("not finite in 2 steps in a row") == 1
    done = illada("pretrain", recipe, "--nproc", "0", code=2)
    assert "--nproc" in done.stderr


def test_nproc_within_ranks_must_be_their_number(illada, tiny):
    ranks = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}
    done = illada("pretrain", tiny(), "--nproc", "2", code=2, **ranks)
    assert "--nproc 2 asks for another number of processes than the 4 that" in done.stderr


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set"),
        ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is 1"),
        ({"RANK": "first"}, "RANK is 'first', not a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1', not a whole number"),
    ],
)
def test_ranks_that_cannot_meet_are_a_usage_error(illada, tiny, environment, sentence):
    done = illada("pretrain", tiny(), code=2, **environment)
    assert sentence in done.stderr
    assert "hint: ranks are started by" in done.stderr
