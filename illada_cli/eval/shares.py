"""`--nproc`: items shared out over processes. Rank 0 grades when all of them are answered.

Each rank writes a file of answers of its own, and none asks what any of them holds already.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from illada_cli.cores import share_cores
from illada_cli.eval.options import EvalOptions
from illada_cli.launch import launch
from illada_cli.ranks import Machines, check_world, end_with_launcher, environment_number, is_rank
from illada_cli.ui import Talk
from illada_core.benchmark.answers import Answers, remove_answers

POLL_S = 0.2


def start(asked: EvalOptions, talk: Talk) -> None:
    """Evaluate in this process, or launch those that share the items."""
    if asked.fresh and asked.output is not None and asked.output.is_dir() and not is_rank():
        remove_answers(asked.output)
    if (asked.nproc or 1) > 1 and not is_rank():
        launch(asked.nproc or 1, Machines(), 0, talk)
        return
    check_world(asked.nproc)
    end_with_launcher()
    if not rank():
        talk.say(f"loading {asked.ckpt}")
    share_cores()
    from illada_cli.eval.run import run

    run(asked, talk)


def rank() -> int:
    """Return the number of this process among those that share the items."""
    return environment_number("RANK", 0)


def world() -> int:
    """Return how many processes share the items."""
    return environment_number("WORLD_SIZE", 1)


def own_device(chosen: str) -> str:
    """Return the device of this process: a GPU of its own, where no number names one."""
    shares_gpus = world() > 1 and chosen == "cuda"
    return f"cuda:{environment_number('LOCAL_RANK', 0)}" if shares_gpus else chosen


def wait_for_others(answers: Answers, keys: set[str], is_stopped: Callable[[], bool]) -> None:
    """Wait until every key has an answer, or a stop is asked for; a lost rank ends this one."""
    while world() > 1 and not is_stopped():
        answers.refresh()
        if all(key in answers for key in keys):
            return
        time.sleep(POLL_S)
