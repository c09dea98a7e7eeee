"""curves.png: the run at a glance, drawn now and then from metrics.jsonl alone.

matplotlib is an extra: without it there is no picture. What is in the picture is picture.py.
"""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from illada_core.errors import CheckpointError
from illada_core.files import decoding, write_file
from illada_core.training import run_folder
from illada_core.training.lines import read_metrics

DRAW_EVERY_S = 60.0
MOST_DRAWING = 0.02  # of the time


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curves(run: Path) -> None:
    """Draw curves.png of a run; without any step in metrics.jsonl there is none."""
    from illada_core.training.picture import picture  # matplotlib is an extra

    by_kind: dict[str, list[dict[str, Any]]] = {}
    for line in read_metrics(run):
        by_kind.setdefault(line["kind"], []).append(line)
    if any(line.get("loss") is not None for line in by_kind.get("step", [])):
        with decoding(run / run_folder.METRICS, CheckpointError, fault="cannot be drawn"):
            write_file(run / run_folder.CURVES, picture(run.resolve().name, by_kind))


class CurvesClock:
    """Draw curves.png now and then, the more seldom the longer it takes."""

    def __init__(self) -> None:
        self.next_s = time.monotonic() + DRAW_EVERY_S

    def draw_if_due(self, run: Path) -> None:
        """Draw the curves of a run, if matplotlib is there and it is time."""
        began = time.monotonic()
        if began >= self.next_s and can_draw():
            draw_curves(run)
            took = time.monotonic() - began
            self.next_s = began + max(DRAW_EVERY_S, took / MOST_DRAWING)
