"""The mixture that a run is trained on: as its checkpoint has it, and as it is asked for now."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from illada_core.data.mixture import CYCLE, Phase, go_on, whole_of
from illada_core.decoding import shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding
from illada_core.places import told
from illada_core.training import run_folder
from illada_core.training.setup import Setup

MIXTURE = "mixture"  # of state.json, and the kind of its line in metrics.jsonl


def phases_of(
    setup: Setup, facts: dict[str, Any], checkpoint: Path | None, place: int
) -> list[Phase]:
    """Return the phases of a run, the last of which is what is asked for; none without a mixture.

    `facts` are those of its checkpoint, `place` how many rows it was trained on. UsageError for a
    run on a mixture that is given none, CheckpointError if what the checkpoint says is damaged.
    """
    told = facts.get(MIXTURE)
    if setup.slots is None:
        if told:
            raise UsageError(
                "this run is trained on a mixture, and one dataset is given",
                "give a mixture; --mixture DIR=1 goes on with one dataset alone",
            )
        return []
    if checkpoint is None:
        return [Phase(0, setup.slots)]
    if not told:
        return list(go_on(whole_of(facts["dataset"]), setup.slots, place))
    with decoding(checkpoint / run_folder.STATE, CheckpointError):
        phases = shaped(told, tuple[Phase, ...], MIXTURE)
        starts = [phase.first_place for phase in phases]
        if starts[0] or starts != sorted(set(starts)) or starts[-1] > place:
            raise ValueError("the phases of its mixture are not one after the other")
        if any(sum(count for _, count in phase.slots) != CYCLE for phase in phases):
            raise ValueError("the shares of its mixture do not add up")
    return list(go_on(phases, setup.slots, place))


def told_of(phases: list[Phase]) -> dict[str, Any]:
    """Return what a checkpoint says of the mixture of a run, nothing of a run on one dataset."""
    return {MIXTURE: [asdict(phase) for phase in phases]} if phases else {}


def shares(setup: Setup) -> list[dict[str, Any]]:
    """Return what metrics.jsonl says of a mixture: each dataset's share of the rows."""
    assert setup.slots is not None
    counts = [count for _, count in setup.slots]
    return [
        {"folder": told(source.folder), "fingerprint": source.fingerprint, "share": count / CYCLE}
        for source, count in zip(setup.sources, counts, strict=True)
    ]


def describe(setup: Setup, step: int) -> str:
    """Say which mixture begins after a step."""
    parts = [f"{each['share']:.1%} {each['folder']}" for each in shares(setup)]
    return f"from step {step + 1} on the rows are {', '.join(parts)}"
