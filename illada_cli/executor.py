"""Parts of a work as tasks of a Ray cluster: each is what `--part i/n` does on some machine.

A task returns a number or a sentence, never data: what it makes is in the output, which all
machines see. So a task that is lost with its machine is begun again elsewhere, finds what is
finished, and leaves the same bytes. The one owner of ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from illada_cli import ui
from illada_cli.signals import stop_on_signals
from illada_core.data.portion import Portion
from illada_core.errors import DataError, IlladaError, UsageError
from illada_core.places import path_of, told

TRIES = 4  # of a part, whose worker may be lost
PARTS_A_SLOT = 4  # so that a part which is begun again is no large one
LOOK_EVERY_S = 0.5
PROMISE = "ending the parts at work, finished shards are kept"
GO_ON_HINT = "run the same command again: what is finished is kept"

# Does a portion of what is asked for; yields how much more of it is done.
Steps = Callable[[Any, Portion], Iterator[float]]


def run_parts(steps: Steps, asked: Any, output: Path, pieces: int, total: float, unit: str) -> None:
    """Do all parts of a work of so many pieces on a cluster, and wait for them.

    `asked` is what a person asked of a verb, with fields `output`, `tokenizer` and `workers`.
    Ray takes the cluster that RAY_ADDRESS names, or begins one on this machine. DataError if a
    part fails, or is lost too often.
    """
    ray = connected()
    cpus = asked.workers or 1
    try:
        slots = max(int(ray.cluster_resources().get("CPU", 1)) // cpus, 1)
        count = max(min(pieces, PARTS_A_SLOT * slots), 1)
        asked.talk.say(f"ray: {ui.plural(count, 'part')}, {slots} at once")
        progress = ray.remote(num_cpus=0)(Progress).remote()
        task = ray.remote(num_cpus=cpus, max_retries=TRIES - 1)(do_part)
        named = {"output": told(output), "tokenizer": asked.tokenizer and told(asked.tokenizer)}
        common = (steps, replace(asked, **named), os.getcwd(), progress)
        parts = {task.remote(*common, index, count): index for index in range(count)}
        follow(ray, parts, progress, count, output, total, unit, asked.talk)
    finally:
        ray.shutdown()


def connected() -> Any:
    """Return ray, connected; UsageError if it is not installed, DataError if no cluster answers."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns
    try:
        import ray
    except ImportError:
        raise UsageError("--executor ray needs ray", "pip install 'illada[cluster]'") from None
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DataError(
            f"no Ray cluster answers: {str(error).splitlines()[0]}",
            "RAY_ADDRESS names one; without it one is begun on this machine",
        ) from error
    return ray


class Progress:
    """An actor that adds up how much of each part is done; one begun again begins at nothing."""

    def __init__(self) -> None:
        self.done: dict[int, float] = {}

    def begin(self, index: int) -> None:
        """Take note that a part begins."""
        self.done[index] = 0.0

    def add(self, index: int, amount: float) -> None:
        """Take note that more of a part is done."""
        self.done[index] += amount

    def total(self) -> float:
        """Return how much is done of all parts."""
        return sum(self.done.values())


def do_part(
    steps: Steps, asked: Any, cwd: str, progress: Any, index: int, count: int
) -> IlladaError | None:
    """Do one part on some machine; return what went wrong, None if nothing did."""
    progress.begin.remote(index)
    try:
        os.chdir(cwd)
        tokenizer = asked.tokenizer and path_of(asked.tokenizer)
        here = replace(asked, output=path_of(asked.output), tokenizer=tokenizer)
        for amount in steps(here, Portion(index, count)):
            progress.add.remote(index, amount)
    except IlladaError as error:
        return type(error)(error.sentence, error.hint)
    except OSError as error:
        return DataError(f"part {index}/{count}: {ui.os_error_sentence(error)}", GO_ON_HINT)
    return None


def follow(
    ray: Any,
    parts: dict[Any, int],
    progress: Any,
    count: int,
    output: Path,
    total: float,
    unit: str,
    talk: ui.Talk,
) -> None:
    """Wait for all parts, with one bar; end them all at a signal, or when one fails."""
    with stop_on_signals(PROMISE) as stop, talk.progress("parts", total, unit) as advance:
        waiting, shown = dict(parts), 0.0
        while waiting and not stop.requested():
            ended, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK_EVERY_S)
            done = ray.get(progress.total.remote())
            advance(done - shown)
            shown = done
            for reference in ended:
                index = waiting.pop(reference)
                try:
                    error = ray.get(reference)
                except ray.exceptions.RayError as lost:
                    first = (str(lost).splitlines() or [type(lost).__name__])[0]
                    error = DataError(f"part {index}/{count} was lost: {first}", GO_ON_HINT)
                if error is not None:
                    cancel(ray, waiting)
                    raise error
        cancel(ray, waiting)
    stop.leave(f"{told(output)} is not finished", GO_ON_HINT)


def cancel(ray: Any, waiting: dict[Any, int]) -> None:
    """End parts that are at work or waiting."""
    for reference in waiting:
        ray.cancel(reference, force=True)
