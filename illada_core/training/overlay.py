"""The curves of several runs in one picture: training smoothed, validation as points."""

import io
from typing import Any

import matplotlib
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from illada_core.training.history import RunHistory
from illada_core.training.picture import (
    MOST_POINTS,
    STYLE,
    curve,
    label_tokens,
    mark_stretches,
    smooth,
    thin,
)


def overlay(runs: list[RunHistory], labels: list[str]) -> bytes:
    """Return the PNG of some runs, each under a label."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.6), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes: Any = figure.subplots()
        for place, (run, label) in enumerate(zip(runs, labels, strict=True)):
            draw_run(axes, run, label, colormaps["tab10"](place % 10))
        label_tokens(axes)
        axes.set_ylabel("nats per token")
        axes.set_title("Loss of training (smoothed) and bound on held-out rows (points)")
        axes.legend(loc="upper right")
        image = io.BytesIO()
        figure.savefig(image, format="png")
    return image.getvalue()


def draw_run(axes: Any, run: RunHistory, label: str, colour: Any) -> None:
    """Draw one run; its validation stands in the label."""
    train = thin(curve(run.of_kind("step"), "loss"), MOST_POINTS)
    mean = smooth(train)
    told = f"{label}: bound {run.bound:.3f}" if run.bound is not None else label
    axes.plot(train.tokens, train.values, color=colour, alpha=0.15, linewidth=0.6)
    axes.plot(mean.tokens, mean.values, color=colour, linewidth=1.7, label=told)
    bound = curve(run.of_kind("validation"), "loss")
    axes.plot(bound.tokens, bound.values, color=colour, marker="o", markersize=4, linestyle="none")
    mark_stretches(axes, run.of_kind("stretch"), colour)
