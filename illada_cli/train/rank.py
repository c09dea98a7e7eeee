"""A run in this process, which may be one rank of several; here the verbs that train meet torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from illada_cli.signals import Stop
from illada_cli.train.view import show
from illada_cli.ui import Talk
from illada_core.training.loop import train
from illada_core.training.parallel import join_ranks
from illada_core.training.resuming import Launch
from illada_core.training.session import open_session
from illada_core.training.setup import Setup
from illada_core.training.source import row_source
from illada_core.training.step import likelihood_bound


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: with a model, or before its time by a signal."""

    model: Path | None
    stopped_by: int
    step: int


def train_rank(
    setup: Setup,
    folder: Path,
    verb: str,
    fresh: bool,
    launch: Launch | None,
    talk: Talk,
    stop: Stop,
) -> RunEnd:
    """Train in a run folder and show what happens."""
    with (
        join_ranks(setup.recipe.run.device) as ranks,
        open_session(setup, folder, ranks, fresh, launch) as session,
    ):
        source = row_source(session.rows, session.corruption, session.share)
        events = train(session, source, likelihood_bound, stop.number)
        model = show(events, verb, talk)
    return RunEnd(model, session.stopped_by, session.progress.step)
