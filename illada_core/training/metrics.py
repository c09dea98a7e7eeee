"""What a run leaves to read: metrics.jsonl and environment.json. Trackers get the numbers too.

Numbers that are not finite are null. On resume the lines after the checkpoint are cut off, so
each step stands there once.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import torch

import illada_core
from illada_core.files import flush, write_all, write_file, write_json
from illada_core.training import run_folder
from illada_core.training.lines import METRICS_LINE, STEP_LINE, read_lines
from illada_core.training.parallel import Ranks
from illada_core.training.resuming import Launch
from illada_core.training.trackers import Trackers


class StepLines:
    """An open file of lines that each name their `step`; those after `last_step` are cut off.

    Every line is handed to the system when it is written. `last` is the last one kept.
    """

    def __init__(self, path: Path, last_step: int, kinds: Mapping[str, Any] = STEP_LINE) -> None:
        kept = [line for line in read_lines(path, kinds) if line["step"] <= last_step]
        write_file(path, b"".join(encode_line(line) for line in kept))
        self.path, self.last = path, kept[-1] if kept else None
        # Unbuffered: a full disk is told at its line, and a kill loses none of the lines before.
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(self, **values: Any) -> None:
        """Add one line."""
        write_all(self.file, encode_line(values), self.path)

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        flush(self.file)

    def close(self) -> None:
        self.file.close()


class Metrics:
    """The open metrics of a run, and what else takes them."""

    def __init__(self, run: Path, last_step: int, trackers: Trackers) -> None:
        self.lines = StepLines(run / run_folder.METRICS, last_step, METRICS_LINE)
        last = self.lines.last
        is_finished = last is not None and last["kind"] == "finished"
        self.finished_step = last["step"] if last is not None and is_finished else None
        self.trackers = trackers

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Add one line."""
        self.lines.write(kind=kind, step=step, **values)
        numbers = {
            f"{kind}/{name}": value
            for name, value in values.items()
            if isinstance(value, int | float)
        }
        self.trackers.write(step, numbers)

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        self.lines.sync()

    def close(self) -> None:
        self.lines.close()
        self.trackers.close()


def encode_line(line: dict[str, Any]) -> bytes:
    """Write one line of JSON, with null for what JSON cannot say."""
    return json.dumps({name: jsonable(value) for name, value in line.items()}).encode() + b"\n"


def jsonable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def record_start(
    run: Path, step: int, ranks: Ranks, backend: str, launch: Launch | None = None
) -> None:
    """Add this start of the run to environment.json: command line, versions, hardware.

    `launch` says how the ranks were started, where illada itself has done it.
    """
    starts = run_folder.read_starts(run)
    starts.append(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "step": step,
            "command": sys.argv,
            "directory": os.getcwd(),
            "illada": illada_core.__version__,
            "commit": source_commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "system": platform.platform(),
            "device": device_name(ranks.device),
            "attention": backend,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "world": ranks.world,
            "local_world": ranks.local_world,
            **({"nodes": launch.nodes, "restarts": launch.restarts} if launch else {}),
        }
    )
    write_json(run / run_folder.ENVIRONMENT, {"starts": starts})


def device_name(device: torch.device) -> str:
    """Return the name that the driver gives a device; for a CPU, its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}"


def source_commit() -> str | None:
    """Return the git commit of an editable checkout, or None."""
    checkout = Path(illada_core.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


class Speed:
    """Tokens and FLOPs per second over the last steps of this process, pauses left out."""

    def __init__(self, steps: int = 20) -> None:
        self.last: deque[tuple[float, float, float]] = deque(maxlen=steps)
        self.began = time.perf_counter()

    def resume(self) -> None:
        """Count the time of the next step from now on, after a pause."""
        self.began = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last step, or pause, and count anew."""
        before, self.began = self.began, time.perf_counter()
        return self.began - before

    def add(self, seconds: float, tokens: float, flops: float) -> tuple[float, float]:
        """Add one step and return (tokens per second, FLOP per second)."""
        self.last.append((seconds, tokens, flops))
        total_s, total_tokens, total_flops = (
            sum(column) for column in zip(*self.last, strict=True)
        )
        return total_tokens / total_s, total_flops / total_s
