"""A program that a model wrote, run in a child with limits: time, memory, processes, files, output.

Where the system allows (`unshare`), the child is in namespaces of its own: it sees no network and
no other process, and all it started ends with it. That bounds accidents. It is no jail for a
program that means harm: its files are those of whoever runs it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryDirectory

MIB = 1 << 20
UNSHARE = ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# Reads the word to say and the program; says the word if that runs to its end. A program that
# leaves early, or a process that it forked, does not.
RUNNER = """
import os, resource, sys
memory, processes, written, seconds = map(int, sys.argv[1:5])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
word = sys.stdin.readline()
program = sys.stdin.read()
speak, own = os.dup(1), os.getpid()
null = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(null, stream)
exec(compile(program, 'program', 'exec'), {'__name__': '__main__'})
if os.getpid() == own:
    os.write(speak, word.encode())
"""


@dataclass(frozen=True)
class Limits:
    """What a program may use; `processes` counts those of the user where there is no `unshare`."""

    seconds: float = 10.0
    memory_bytes: int = 2048 * MIB
    processes: int = 32
    written_bytes: int = 16 * MIB


@cache
def isolation() -> tuple[str, ...]:
    """Return the command that gives a child namespaces of its own, empty where none works."""
    found = shutil.which("unshare")
    if found is None:
        return ()
    command = (found, *UNSHARE)
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if tried.returncode == 0 else ()


def run_programs(
    programs: Sequence[str], limits: Limits | None = None, workers: int | None = None
) -> Iterator[bool]:
    """Run programs, some at a time; yield in order whether each ran to its end without an error."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        yield from pool.map(lambda program: passes(program, limits or Limits()), programs)


def passes(program: str, limits: Limits) -> bool:
    """Tell whether a program runs to its end within its limits. Raises OSError if none can run."""
    try:
        program.encode()
    except UnicodeEncodeError:
        return False
    word = secrets.token_hex(16)
    with TemporaryDirectory(prefix="illada-", ignore_cleanup_errors=True) as folder:
        child = subprocess.Popen(
            [*isolation(), sys.executable, "-I", "-c", RUNNER, *arguments(limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        said = b""
        with suppress(subprocess.TimeoutExpired):
            said, _ = child.communicate(f"{word}\n{program}".encode(), limits.seconds)
        end(child)
    return said.decode(errors="replace").strip() == word


def arguments(limits: Limits) -> list[str]:
    """Return limits as the runner reads them."""
    seconds = int(limits.seconds) + 1
    return [
        str(number)
        for number in (limits.memory_bytes, limits.processes, limits.written_bytes, seconds)
    ]


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child with all that is in its session."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout:
        child.stdout.close()
