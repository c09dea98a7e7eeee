"""Ranks that are lost, hang or fail: what is said of them, and which are started again."""

import os
import signal
import socket
import time

from illada_core.files import read_json
from tests.cli.train.test_nproc import ENDLESS, children, has_ended
from tests.cli.train.test_pretrain import wait_for_lines

HOST = socket.gethostname()


def wait_for_other_ranks(process, ranks):
    """Wait until all of these are gone, and as many others are there; return those."""
    deadline = time.monotonic() + 60
    while True:
        found = [child for child in children(process) if not has_ended(child)]
        if len(found) == len(ranks) and not set(found) & set(ranks):
            return found
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "not started again"
        time.sleep(0.05)


def test_a_lost_rank_is_started_again_as_often_as_was_asked_for(start_illada, tiny, tmp_path):
    """From the newest checkpoint: --fresh is for the first start alone."""
    asked = tiny(*ENDLESS, "checkpoint.every_steps=4")
    process = start_illada(
        "pretrain", asked, "-q", "--nproc", "2", "-o", "run", "--fresh", "--restarts", "1"
    )
    wait_for_lines(tmp_path / "run", 9, process)
    ranks = children(process)
    os.kill(ranks[1], signal.SIGKILL)
    others, starts = wait_for_other_ranks(process, ranks), tmp_path / "run" / "environment.json"
    while len(steps := [start["step"] for start in read_json(starts)["starts"]]) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(others[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (1, "")
    again = "starting again from the newest checkpoint"
    assert f"illada: warning: rank 1 on {HOST} was ended by SIGKILL: {again}" in stderr
    assert f"illada: rank 0 on {HOST} was ended by SIGKILL\n" in stderr
    assert steps[0] == 0
    assert steps[1] >= 4


def test_what_would_fail_again_is_not_started_again(illada, tiny):
    asked = ("pretrain", tiny(), "--nproc", "2", "--restarts", "3", "--data", "nowhere")
    assert "starting again" not in illada(*asked, code=1).stderr


def test_a_rank_that_hangs_is_named_and_ended(start_illada, tiny, tmp_path):
    """The others wait for it no longer than they may, the launcher a little longer."""
    asked = tiny(*ENDLESS, "parallel.timeout_s=2")
    process = start_illada("pretrain", asked, "-o", "run", "--nproc", "2", "-q")
    wait_for_lines(tmp_path / "run", 3, process)
    os.kill(children(process)[1], signal.SIGSTOP)
    began = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"illada: rank 1 on {HOST} did not answer, and was ended" in stderr
    assert time.monotonic() - began < 30
