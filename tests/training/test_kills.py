"""Ranks killed with SIGKILL as they start, step and save, and started again: nothing is lost.

A hundred kills, and those of a larger run: tests/training/kills.py, benchmarks/results/ranks.md.
"""

import subprocess
import sys

import pytest

from tests.conftest import command_environment


@pytest.mark.skipif(sys.platform != "linux", reason="ranks are forks")
@pytest.mark.parametrize("world", [1, 2])
def test_killed_ranks_end_with_the_losses_and_weights_of_a_quiet_run(tmp_path, world):
    asked = ("tiny", str(tmp_path), "--world", str(world), "--kills", "3")
    command = [sys.executable, "-m", "tests.training.kills", *asked]
    done = subprocess.run(command, env=command_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"3 kills on {world} ranks, 1 of them during a save: none lost")
