"""Each command, stopped at each operation on a file, and run again: nothing may tell.

    python -m tests.crash.sweep                  # what `make crash` runs: everything, as a table
    python -m tests.crash.sweep --some pack      # some operations of a command
    python -m tests.crash.sweep --record FOLDER  # beside it, write down the operations of each

A process that was killed and is run again must leave the files of one that never was, names and
bytes. One that an error of the disk meets must say so in a sentence, or not be harmed by it; and be
as good when it is run again. Exempt are the times in metrics, answers and results, and all of
environment.json.
"""

import errno
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.cases import Case, make_inputs
from tests.crash.process import NO_SHIM, Ended, Stop, build_shim, has_shim, run, warm

TIMES = ("seconds", "tokens_per_s", "mfu", "date", "total_evaluation_time_seconds")
TIMED = ("metrics.jsonl", "answers", "results_")  # how the names of files with times begin
LAST, SOME = 3, 3  # --some takes the last operations, and this many of the others
SHIM = "ILLADA_CRASH_SHIM"  # in the environment of a process that has the shim
KINDS = {
    "killed": (0, False),
    "I/O error": (errno.EIO, False),
    "disk full": (errno.ENOSPC, True),
}


@dataclass
class Score:
    """How often a command was stopped in each way, and what went wrong."""

    operations: list[str]
    tried: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    faults: list[str] = field(default_factory=list)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return all below a folder by its name, None for folders; times are left out."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else timeless(path)
        for path in sorted(folder.rglob("*"))
    }


def timeless(path: Path) -> bytes:
    if path.name == "environment.json":
        return b""
    if not path.name.startswith(TIMED):
        return path.read_bytes()
    texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return json.dumps([without_times(json.loads(text)) for text in texts]).encode()


def without_times(value: Any) -> Any:
    """Return decoded JSON without the values that say how long something took, or when it was."""
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if name not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def differences(found: dict[str, bytes | None], wanted: dict[str, bytes | None]) -> str:
    """Say what is too much, lacking or different; nothing if nothing is."""
    told = [f"{name} too much" for name in found if name not in wanted]
    told += [f"{name} lacking" for name in wanted if name not in found]
    told += [f"{name} differs" for name in found if found[name] != wanted.get(name, found[name])]
    return ", ".join(told)


def fault_of(ended: Ended, folder: Path, wanted: dict[str, bytes | None], stop: Stop) -> str:
    """Say what is wrong with how a stopped command ended; nothing if nothing is."""
    if not stop.error:
        return "" if ended.code == -signal.SIGKILL else f"not killed, but ended with {ended.code}"
    if ended.code == 0:
        return differences(contents(folder), wanted)
    is_sentence = "illada: " in ended.stderr and "Traceback" not in ended.stderr
    if ended.code == 1 and is_sentence:
        return ""
    return f"ended with {ended.code}: {ended.stderr[-300:]}"


def try_stop(case: Case, folder: Path, wanted: dict[str, bytes | None], stop: Stop) -> str:
    """Stop a command, run it again, and say what went wrong; nothing if nothing did."""
    begin(case, folder)
    if fault := fault_of(run(list(case.arguments), folder, stop), folder, wanted, stop):
        return fault
    again = run(list(case.arguments), folder)
    if again.code:
        return f"run again, it ended with {again.code}: {again.stderr[-300:]}"
    told = differences(contents(folder), wanted)
    return told and f"run again, it left {told}"


def begin(case: Case, folder: Path) -> None:
    """Make the folder that a command finds: empty, or as the command before it has left it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not case.before:
        folder.mkdir()
        return
    left = folder.with_name(f"{folder.name}.before")
    if not left.exists():
        left.mkdir()
        ended = run(list(case.before), left)
        assert ended.code == 0, ended.stderr
    shutil.copytree(left, folder)


def chosen(operations: list[str]) -> Iterator[int]:
    """Yield some operations to stop at: after something got its name, the last ones, and others."""
    stride = max(1, len(operations) // SOME)
    for at, before in enumerate(["", *operations[:-1]], 1):
        is_named = before.startswith("rename") and ".partial" not in before
        if is_named or at > len(operations) - LAST or at % stride == 0:
            yield at


def sweep(case: Case, folder: Path, some: bool) -> Score:
    """Stop a command at its operations, in each way; with `some` at fewer, and in fewer ways."""
    begin(case, folder)
    whole = run(list(case.arguments), folder)
    assert whole.code == 0, whole.stderr
    wanted, score = contents(folder), Score(whole.operations)
    places = list(chosen(whole.operations) if some else range(1, len(whole.operations) + 1))
    for place, at in enumerate(places):
        for kind, (error, stays) in KINDS.items():
            if some and error and place % 3:
                continue
            score.tried[kind] += 1
            if fault := try_stop(case, folder, wanted, Stop(at, error, stays)):
                score.faults.append(f"{kind} at {at}, {whole.operations[at - 1]}: {fault}")
    return score


def main(arguments: list[str]) -> int:
    """Sweep all cases, or those that are named, and print a table of what was tried and failed."""
    parser = ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--some", action="store_true")
    parser.add_argument("--record", type=Path)
    asked = parser.parse_args(arguments)
    if not has_shim():
        sys.exit(NO_SHIM)
    # In memory where that can be: what is counted is asked of the disk, not done by it.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        folder = Path(scratch).resolve()
        if SHIM not in os.environ:
            return main_with_shim(arguments, folder)
        warm()
        cases = make_inputs(folder / "inputs")
        if unknown := set(asked.names) - {case.name for case in cases}:
            sys.exit(f"no such case: {unknown}")
        print("| command | operations |", " | ".join(KINDS), "| failed | s |")
        print("| --- " * (4 + len(KINDS)) + "|", flush=True)
        scores = [
            show(case, folder / f"case-{number}", asked)
            for number, case in enumerate(cases)
            if case.name in asked.names or not asked.names
        ]
    return int(any(score.faults for score in scores))


def show(case: Case, folder: Path, asked: Namespace) -> Score:
    """Sweep a case, print its row of the table, and what went wrong on stderr."""
    began = time.monotonic()
    score = sweep(case, folder, asked.some)
    cells = [len(score.operations), *score.tried.values(), len(score.faults)]
    row = f"| `{case.name}` | " + " | ".join(f"{cell:,}" for cell in cells)
    print(row, f"| {time.monotonic() - began:.0f} |", flush=True)
    for fault in score.faults:
        print(f"{case.name}: {fault}", file=sys.stderr, flush=True)
    if asked.record:
        (asked.record / case.name).write_text("\n".join(score.operations))
    return score


def main_with_shim(arguments: list[str], scratch: Path) -> int:
    """Begin again in a process that has the shim."""
    shim = build_shim(scratch)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        SHIM: str(shim),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TERM": "dumb",
    }
    command = [sys.executable, "-m", "tests.crash.sweep", *arguments]
    return os.spawnve(os.P_WAIT, sys.executable, command, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
