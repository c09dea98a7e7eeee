"""Commands of illada in forks of one warm process, stopped at an operation on a file of theirs.

The process has the shim (shim.c) before its C library and has imported all that is heavy, so that
a fork costs milliseconds. It never runs a command itself: threads do not outlive a fork.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SHIM_SOURCE = Path(__file__).with_name("shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
NO_SHIM = "the shim needs Linux and a C compiler"


@dataclass(frozen=True)
class Stop:
    """Where a process is stopped: killed at operation `at` (0: nowhere), or failed by `error`.

    `stays`: all later operations that take room fail as well, as on a full disk.
    """

    at: int = 0
    error: int = 0
    stays: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended: its code or minus its signal, what it said, what it did to files."""

    code: int
    stderr: str
    operations: list[str]


def has_shim() -> bool:
    return sys.platform == "linux" and COMPILER is not None


def build_shim(folder: Path) -> Path:
    """Compile the shim."""
    path = folder / "shim.so"
    flags = ("-shared", "-fPIC", "-O1", "-o", str(path), str(SHIM_SOURCE), "-ldl")
    subprocess.run([str(COMPILER), *flags], check=True)
    return path


def warm() -> None:
    """Import what the commands import, once for all forks."""
    import peft  # noqa: F401

    import illada_cli.app
    import illada_cli.chat.run
    import illada_cli.generate.run
    import illada_cli.pack.run
    import illada_cli.score.run
    import illada_cli.tokenize.run
    import illada_cli.train.rank  # noqa: F401


def run(arguments: list[str], cwd: Path, stop: Stop | None = None) -> Ended:
    """Run a command in a fork; operations below `cwd` are counted and told."""
    told, counted = cwd.with_name(f"{cwd.name}.stderr"), cwd.with_name(f"{cwd.name}.operations")
    child = os.fork()
    if child == 0:
        run_here(arguments, cwd, stop or Stop(), told, counted)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, told.read_text(errors="replace"), counted.read_text().splitlines())


def run_here(arguments: list[str], cwd: Path, stop: Stop, told: Path, counted: Path) -> None:
    """Run a command in this process and leave."""
    code = 70
    try:
        os.chdir(cwd)
        for descriptor, target in ((0, os.devnull), (1, os.devnull), (2, told)):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(target, flags, 0o644), descriptor)
        sys.argv = ["illada", *arguments]
        from illada_cli.app import main

        shim = ctypes.CDLL(None)
        root, log = os.fsencode(cwd.resolve()), os.fsencode(counted.resolve())
        shim.shim_arm(root, log, ctypes.c_long(stop.at), stop.error, int(stop.stays))
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
