"""Runs whose ranks are killed at random moments and started again, beside one that is left alone.

    python -m tests.training.kills tiny FOLDER [--world 3] [--kills 100]
    python -m tests.training.kills medium FOLDER [--world 4] [--kills 12]
    python -m tests.training.kills large FOLDER               # hours; the same command goes on

Ranks are forks of one warm process, so that a start costs a fraction of a second; it never runs a
command itself, since threads do not outlive a fork. Every kill is a line of FOLDER/kills.jsonl.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

import illada_cli.train.rank  # noqa: F401  what ranks import, once for all of them
import illada_core.training.saving  # noqa: F401
from illada_cli.app import main
from illada_core.files import PARTIAL_FOLDER
from illada_core.model.finding import MODEL, newest_checkpoint
from illada_core.training import run_folder
from illada_core.training.history import read_run
from illada_core.training.lines import read_metrics
from illada_core.training.recipe.files import to_toml
from illada_core.training.run_folder import read_starts
from tests.training.on_ranks import free_port
from tests.training.test_loop import losses
from tests.training.tiny import tiny_recipe, write_packed, write_rows

MOMENTS = ("start", "step", "save", "step", "save")  # in turn
# Within which ranks have to end that have lost one; those that wait for it to begin do not know,
# and are ended by a launcher.
END_S = {"start": 3.0, "step": 60.0, "save": 60.0}
FEW_STEPS = 4
TINY = ("log.curves=false", "checkpoint.every_steps=5", "checkpoint.keep_last=3", "batch.rows=5")
# 60 steps of 32 rows, on one rank too, and how far its first losses may be from those (relative).
LONG = (
    "model.heads=8",
    "model.kv_heads=2",
    "batch.rows=32",
    "run.threads=1",
    "checkpoint.every_steps=5",
    "checkpoint.keep_last=2",
    "optimizer.peak_lr=1e-3",
    "log.curves=false",
)
SIZES = {
    "medium": (128, 1e-6, ("model.layers=4", "model.width=256", "model.ffn_size=704")),
    "large": (
        512,
        1e-4,
        (
            "model.layers=6",
            "model.width=512",
            "model.ffn_size=1408",
            "batch.micro_rows=8",
            "run.compute_dtype=bfloat16",
        ),
    ),
}


@dataclass(frozen=True)
class Kill:
    """One kill: of which rank and when, the newest checkpoints before and after, the seconds that
    the other ranks went on for; `hung` counts those that had to be killed too."""

    rank: int
    moment: str
    step_before: int
    step_after: int
    seconds: float
    hung: int


def fork_ranks(world: int, act: Callable[[], int], folder: Path) -> list[int]:
    """Start some ranks; return their process ids. `act` returns the code they exit with.

    What they say goes to a file.
    """
    port, ranks = str(free_port()), []
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
    for rank in range(world):
        child = os.fork()
        if child == 0:
            os.environ |= {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            run_here(act, folder / f"said-{rank}.txt")
        ranks.append(child)
    return ranks


def run_here(act: Callable[[], int], said: Path) -> None:
    """Do what a rank has to do in this process, and leave."""
    code = 70
    try:
        for descriptor, target in ((0, os.devnull), (1, os.devnull), (2, said)):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(target, flags, 0o644), descriptor)
        code = act()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def command(arguments: list[str]) -> int:
    """Run a command of illada as it runs in a process of its own."""
    sys.argv = ["illada", *arguments]
    return main(arguments)


def codes_of(ranks: list[int], limit_s: float = float("inf")) -> tuple[list[int], int]:
    """Wait for ranks; return their exit codes, and how many had to be killed after a time."""
    deadline, codes, hung = time.monotonic() + limit_s, dict[int, int](), 0
    while len(codes) < len(ranks):
        for rank in ranks:
            if rank not in codes:
                ended, status = os.waitpid(rank, os.WNOHANG)
                if ended:
                    codes[rank] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            for rank in set(ranks) - codes.keys():
                os.kill(rank, signal.SIGKILL)
            hung, deadline = len(ranks) - len(codes), float("inf")
        time.sleep(0.005)
    return [codes[rank] for rank in ranks], hung


def is_moment(moment: str, after: float, began: float, lines: int, run: Path) -> bool:
    """Tell whether it is time to kill."""
    if moment == "start":
        return time.monotonic() > began + after
    if moment == "step":
        return count_lines(run) >= lines + 10 * after
    return any((run / run_folder.CHECKPOINTS).glob(f"{PARTIAL_FOLDER}*"))


def count_lines(run: Path) -> int:
    path = run / run_folder.METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def newest_step(run: Path) -> int:
    """Return the step of a run's newest checkpoint, every byte of which is checked; 0: none."""
    newest = newest_checkpoint(run)
    return run_folder.read_checkpoint(newest)["progress"]["step"] if newest else 0


def kill_one(
    world: int, arguments: list[str], run: Path, rank: int, moment: str, chance: random.Random
) -> Kill | None:
    """Start or go on, and kill a rank at a moment; None if the run ended before it came."""
    before, lines = newest_step(run), count_lines(run)
    remove_leftovers_of(run)
    ranks, began = fork_ranks(world, partial(command, arguments), run.parent), time.monotonic()
    after = chance.random()
    while not is_moment(moment, after, began, lines, run):
        if any(os.waitid(os.P_PID, each, os.WEXITED | os.WNOHANG | os.WNOWAIT) for each in ranks):
            codes, _ = codes_of(ranks)
            assert codes == [0] * world, (codes, said_by(run.parent))
            return None
        time.sleep(0.001)
    if moment == "save":
        time.sleep(after * 0.02)
    os.kill(ranks[rank], signal.SIGKILL)
    killed = time.monotonic()
    codes, hung = codes_of(ranks, END_S[moment])
    assert codes[rank] in (-signal.SIGKILL, 0), codes
    return Kill(rank, moment, before, newest_step(run), time.monotonic() - killed, hung)


def going_on(run: Path, file: Path) -> list[str]:
    """Return the command that goes on with a run, or begins it."""
    place = ["--resume", str(run)] if run_folder.is_run(run) else [str(file), "-o", str(run)]
    return ["pretrain", *place, "-q"]


def remove_leftovers_of(run: Path) -> None:
    """Remove what a killed save left, so that the next one can be seen to begin."""
    if run.exists():
        run_folder.remove_leftovers(run)


def said_by(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("said-*.txt"))]


def complete(world: int, act: Callable[[], int], folder: Path) -> None:
    """Let ranks do what they have to do, to its end."""
    codes, _ = codes_of(fork_ranks(world, act, folder))
    assert codes == [0] * world, said_by(folder)


def torment(folder: Path, file: Path, world: int, kills: int, seed: int = 0) -> list[Kill]:
    """Kill a run of a recipe so often, complete it, and compare it with one that was left alone.

    It goes on by its folder alone (--resume). Losses and weights must be the same bit for bit, its
    curves without a seam, no checkpoint lost, no rank left hanging.
    """
    quiet, run, log = folder / "quiet", folder / "killed", folder / "kills.jsonl"
    asked = ["pretrain", str(file), "-q"]
    if not (quiet / MODEL).exists():
        complete(world, partial(command, [*asked, "-o", str(quiet)]), folder)
    done = [Kill(**json.loads(line)) for line in log.open()] if log.exists() else []
    tries = len(done)
    while len(done) < kills:
        chance = random.Random(f"{seed} {tries}")
        moment = MOMENTS[len(done) % len(MOMENTS)]
        rank = len(done) % world if len(done) < world else chance.randrange(world)
        kill = kill_one(world, going_on(run, file), run, rank, moment, chance)
        tries += 1
        assert kill is not None, f"the run ended after {len(done)} kills: make it longer"
        assert kill.step_after >= kill.step_before, kill
        assert not kill.hung or kill.moment == "start", (kill, said_by(folder))
        done.append(kill)
        with log.open("a") as lines:
            lines.write(json.dumps(asdict(kill)) + "\n")
    complete(world, partial(command, going_on(run, file)), folder)
    assert losses(run) == losses(quiet)
    curves = read_run(run).curves()
    assert curves == read_run(quiet).curves()
    tokens = [point[0] for point in curves["step"]]
    assert tokens == sorted(set(tokens))
    assert len(read_starts(run)) > len(done) // 2, "a kill at a start may come before it is told"
    weights = [(each / MODEL / "model.safetensors").read_bytes() for each in (quiet, run)]
    assert weights[0] == weights[1]
    return done


def write_recipe(folder: Path, rows: int, tokens: int, *changes: str) -> Path:
    """Write packed rows and a recipe on them, unless they are there."""
    file = folder / "recipe.toml"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed = write_packed(folder / "packed", rows, partial(write_rows, row_tokens=tokens))
        file.write_text(to_toml(tiny_recipe(packed, *changes)))
    return file


def tiny(folder: Path, world: int, kills: int) -> list[Kill]:
    """Kill a tiny run, of as many steps as the kills take."""
    steps = 40 + 12 * kills
    return torment(
        folder, write_recipe(folder, 24, 32, *TINY, f"run.total_tokens={160 * steps}"), world, kills
    )


def long(folder: Path, world: int, kills: int, size: str) -> list[Kill]:
    """Kill a run of 60 steps, and tell how far its losses are from those of one rank."""
    row_tokens, near, changes = SIZES[size]
    length = (f"model.max_length={row_tokens}", f"run.total_tokens={60 * 32 * row_tokens}")
    file = write_recipe(folder, 256, row_tokens, *LONG, *changes, *length)
    done = torment(folder, file, world, kills)
    alone = folder / "alone"
    if not (alone / MODEL).exists():
        complete(1, partial(command, ["pretrain", str(file), "-q", "-o", str(alone)]), folder)
    pairs = [
        (one["loss"], two["loss"])
        for one, two in zip(read_metrics(alone), read_metrics(folder / "quiet"), strict=True)
        if one["kind"] == "step"
    ]
    apart = [abs(one - two) / one for one, two in pairs]
    assert max(apart[:FEW_STEPS]) < near
    print(f"{len(pairs)} steps, loss {pairs[0][0]:.4f} to {pairs[-1][0]:.4f}; from one rank's")
    print(f"at most {max(apart[:FEW_STEPS]):.0e} in {FEW_STEPS} steps, {max(apart):.0e} in all")
    return done


def ask() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("size", choices=("tiny", *SIZES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", type=int, default=4)
    parser.add_argument("--kills", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = asked.folder.resolve() / f"{asked.size}-{asked.world}"
    if asked.size == "tiny":
        done = tiny(folder, asked.world, asked.kills or 100)
    else:
        done = long(folder, asked.world, asked.kills or 12, asked.size)
    saves = sum(kill.moment == "save" for kill in done)
    slowest = max(kill.seconds for kill in done)
    print(
        f"{len(done)} kills on {asked.world} ranks, {saves} of them during a save: none lost;",
        end=" ",
    )
    print(f"the others ended within {slowest:.1f} s;", end=" ")
    print("losses, curves and weights are those of a quiet run")


if __name__ == "__main__":
    ask()
