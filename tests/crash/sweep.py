"""Each command, stopped at each operation on a file, and run again: nothing may tell.

    python -m tests.crash.sweep            # what `make crash` runs: everything, a table at the end
    python -m tests.crash.sweep --some     # what the tests run: some operations of each command

A process that was killed and is run again must leave the files of one that never was, names and
bytes. One that an error of the disk meets must say so in a sentence, or not be harmed by it; and be
as good when it is run again. Exempt are the times in metrics.jsonl and all of environment.json.
"""

import errno
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.cases import Case, make_inputs
from tests.crash.process import NO_SHIM, Ended, Stop, build_shim, has_shim, run, warm

TIMES = ("seconds", "tokens_per_s", "mfu")
LAST, SOME = 3, 5  # of each command, --some takes the last operations, and this many of the others
KINDS = {
    "killed": (0, False),
    "I/O error": (errno.EIO, False),
    "disk full": (errno.ENOSPC, True),
}


@dataclass
class Score:
    """How often a command was stopped in each way, and what went wrong."""

    operations: int
    tried: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    faults: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return all below a folder by its name, None for folders; times are left out."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else timeless(path)
        for path in sorted(folder.rglob("*"))
    }


def timeless(path: Path) -> bytes:
    if path.name == "environment.json":
        return b""
    if path.name != "metrics.jsonl":
        return path.read_bytes()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return json.dumps(kept).encode()


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


def chosen(operations: int, some: bool) -> Iterator[int]:
    """Yield the operations to stop at: all, or a few here and there and the last ones."""
    for at in range(1, operations + 1):
        if not some or at > operations - LAST or at % max(1, operations // SOME) == 1:
            yield at


def sweep(case: Case, folder: Path, some: bool) -> Score:
    """Stop a command at its operations, in each way."""
    begin(case, folder)
    whole = run(list(case.arguments), folder)
    assert whole.code == 0, whole.stderr
    wanted, score = contents(folder), Score(len(whole.operations))
    for at in chosen(score.operations, some):
        for kind, (error, stays) in KINDS.items():
            if some and error and at % 2:
                continue
            score.tried[kind] += 1
            if fault := try_stop(case, folder, wanted, Stop(at, error, stays)):
                score.faults[kind].append(f"at {at}, {whole.operations[at - 1]}: {fault}")
    return score


def main(arguments: list[str]) -> int:
    """Sweep all cases and print a table of what was tried and what failed."""
    if not has_shim():
        print(NO_SHIM)
        return 1
    some = "--some" in arguments
    names = [name for name in arguments if not name.startswith("--")]
    with tempfile.TemporaryDirectory() as scratch:
        if "shim_arm" not in os.environ.get("ILLADA_SHIM", ""):
            return main_with_shim(arguments, Path(scratch))
        warm()
        scratch_path = Path(scratch).resolve()
        cases = make_inputs(scratch_path / "inputs")
        columns = " | ".join(KINDS)
        print(f"| command | operations | {columns} | failed | s |")
        print("| --- " * (4 + len(KINDS)) + "|", flush=True)
        failed = 0
        for number, case in enumerate(cases):
            if names and case.name not in names:
                continue
            began = time.monotonic()
            score = sweep(case, scratch_path / f"case-{number}", some)
            faults = [f"{kind} {fault}" for kind in KINDS for fault in score.faults[kind]]
            tried = " | ".join(f"{score.tried[kind]:,}" for kind in KINDS)
            row = f"| `{case.name}` | {score.operations} | {tried} | {len(faults)} |"
            print(row, f"{time.monotonic() - began:.0f} |", flush=True)
            for fault in faults:
                print(f"{case.name}: {fault}", file=sys.stderr, flush=True)
            failed += len(faults)
    return int(failed > 0)


def main_with_shim(arguments: list[str], scratch: Path) -> int:
    """Begin again in a process that has the shim."""
    shim = build_shim(scratch)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "ILLADA_SHIM": "shim_arm",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TERM": "dumb",
    }
    command = [sys.executable, "-m", "tests.crash.sweep", *arguments]
    return os.spawnve(os.P_WAIT, sys.executable, command, environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
