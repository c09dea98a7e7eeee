"""The benchmark for GPUs, tried on a CPU: it runs whole, and says so where a check fails."""

import json
import subprocess
import sys

from tests.conftest import REPO

SCRIPT = REPO / "benchmarks/gpu.py"
# zstandard is not on every machine that has torch.
WITHOUT = "import sys; sys.modules['zstandard'] = None; sys.argv = sys.argv[1:]; import runpy"


def run(*arguments, cwd):
    code = f"{WITHOUT}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_every_check_and_table_runs_without_an_index(tmp_path):
    done = run("--smoke", "--json", "gpu.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert len(report["checks"]) == 14
    assert {check["passed"] for check in report["checks"]} <= {True, None}
    tables = ("generation", "choice", "scoring", "training")
    assert [len(report[name]) for name in tables] == [8, 1, 1, 2]


def test_a_check_that_fails_or_breaks_is_told(tmp_path):
    script = f"""
import runpy, sys
from benchmarks import gpu_checks
sys.argv = ["gpu.py", "--smoke", "--only", "checks"]
gpu_checks.CHECKS.clear()
gpu_checks.CHECKS |= {{"wrong": lambda device: (False, "1 apart"), "broken": lambda device: 1 / 0}}
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAILED   wrong: 1 apart" in done.stdout
    assert "FAILED   broken: ZeroDivisionError" in done.stdout
    assert "failed: wrong, broken" in done.stdout
