"""Two launchers of the same ranks, and how each ends: `--nproc`, and torch's elastic agent.

    python benchmarks/launching.py [--ranks 2] [--rounds 2]

The agent runs in a process of its own that maps its errors to exit codes, as `--nproc` would if it
were built on it (shutdown_timeout 60, no restarts). Both start `illada pretrain` on a tiny dataset
without end; the cases take turns. Printed are medians of the rounds.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))
ENDLESS = ("run.total_tokens=1e8", "log.curves=false", "checkpoint.every_steps=50")
AGENT = "--agent"
LIMIT_S = 90.0
SHUTDOWN_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    from tests.training.tiny import write_packed

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_packed(folder / "packed")
        print("| case | launcher | code | seconds | ranks left | said |")
        print("| --- | --- | --- | ---: | --- | --- |")
        for case in CASES:
            for launcher in ("--nproc", "elastic"):
                found = [
                    play(case, launcher, asked.ranks, folder, number)
                    for number in range(asked.rounds)
                ]
                code, _, left, said = found[-1]
                seconds = statistics.median(each[1] for each in found)
                print(f"| {case} | {launcher} | {code} | {seconds:.1f} | {left} | {said} |")


def play(case: str, launcher: str, ranks: int, folder: Path, number: int) -> tuple:
    """Start ranks, let something happen, and tell exit code, seconds, ranks left and words."""
    run = folder / f"{case}-{launcher}-{number}".replace(" ", "-")
    command = [sys.executable, "-P", "-m", "illada_cli"]
    if launcher == "elastic":
        command = [sys.executable, __file__, AGENT, str(ranks)]
    changes = CHANGES.get(case, ())
    process = subprocess.Popen(
        [*command, "pretrain", str(recipe_file(folder, changes)), "-o", str(run), "-q"]
        + (["--nproc", str(ranks)] if launcher == "--nproc" else []),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    began = time.monotonic()
    if case not in ("diverged", "ready"):
        wait_for_step(run, process)
        began = time.monotonic()
    children = ranks_of(process.pid)
    CASES[case](process, children, run)
    try:
        _, stderr = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        _, stderr = "", "did not end"
    seconds = time.monotonic() - began
    time.sleep(1.0)
    left = [child for child in children if is_alive(child)]
    for child in left:
        os.kill(child, signal.SIGKILL)
    lines = [line for line in stderr.splitlines() if line.startswith("illada:")]
    said = "; ".join(dict.fromkeys(lines)).replace("illada: ", "")
    return process.returncode, seconds, len(left), said


def recipe_file(folder: Path, changes: tuple[str, ...]) -> Path:
    from illada_core.training.recipe.files import to_toml
    from tests.training.tiny import tiny_recipe

    path = folder / "tiny.toml"
    path.write_text(to_toml(tiny_recipe(folder / "packed", *ENDLESS, *changes)))
    return path


def wait_for_step(run: Path, process: subprocess.Popen) -> None:
    metrics, deadline = run / "metrics.jsonl", time.monotonic() + LIMIT_S
    while not metrics.exists() or not metrics.stat().st_size:
        assert process.poll() is None, "ended before the first step"
        assert time.monotonic() < deadline, "no step in time"
        time.sleep(0.02)


def ranks_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ready(process, children, run):
    """From the command to the first step; then the launcher's memory is read."""
    wait_for_step(run, process)
    status = Path(f"/proc/{process.pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    print(f"  launcher holds {int(kilobytes) >> 10} MB")
    process.terminate()


def one_killed(process, children, run):
    os.kill(children[-1], signal.SIGKILL)


def first_killed(process, children, run):
    os.kill(children[0], signal.SIGKILL)


def signalled(process, children, run):
    process.terminate()


def deaf(process, children, run):
    for child in children:
        os.kill(child, signal.SIGSTOP)
    for _ in range(2):
        process.terminate()
        time.sleep(0.5)


def launcher_killed(process, children, run):
    process.kill()


CASES = {
    "ready": ready,
    "diverged": lambda *_: None,
    "rank 0 killed": first_killed,
    "last rank killed": one_killed,
    "SIGTERM": signalled,
    "SIGTERM twice, ranks hang": deaf,
    "launcher killed": launcher_killed,
}
CHANGES = {"diverged": ("optimizer.peak_lr=1e30", "run.max_bad_steps=2")}


def agent(ranks: int, arguments: list[str]) -> int:
    """Run ranks under torch's agent, and return the exit code that `--nproc` would give."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as logs:
        quiet = dict.fromkeys(range(1, ranks), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=ranks,
            run_id="illada",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            shutdown_timeout=SHUTDOWN_S,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=quiet),
        )
        try:
            elastic_launch(config, sys.executable)("-P", "-m", "illada_cli", *arguments)
        except ChildFailedError as error:
            _, first = error.get_first_failure()
            return first.exitcode if first.exitcode > 0 else 1
        except SignalException as error:
            return 128 + error.sigval
    return 0


if __name__ == "__main__":
    if AGENT in sys.argv[1:2]:
        sys.exit(agent(int(sys.argv[2]), sys.argv[3:]))
    main()
