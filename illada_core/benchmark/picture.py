"""The intervals of a table as a picture: ours, and what others measured."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from illada_core.benchmark.report import OWN, Row

INK, OURS, OTHER = "#2b2f36", "#3b6ea8", "#d1682b"
MARKS = "sD^vP*"
ROW_INCHES, HEAD_INCHES = 0.42, 1.3


def picture(rows: Sequence[Row], labels: Sequence[str]) -> bytes:
    """Return the PNG of rows, the first on top; `labels` name them."""
    style: dict[Any, Any] = {"font.size": 9.5, "text.color": INK, "legend.frameon": False}
    with matplotlib.rc_context(style):
        height = HEAD_INCHES + ROW_INCHES * len(rows)
        figure = Figure(figsize=(8, height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        places = list(range(len(rows)))
        values = [100 * row.value for row in rows]
        low = [100 * (row.value - row.interval[0]) for row in rows]
        high = [100 * (row.interval[1] - row.value) for row in rows]
        axes.errorbar(
            values, places, xerr=(low, high), fmt="o", color=OURS, capsize=3, label="here ± 95 %"
        )
        named: dict[str, list[tuple[float, int]]] = {}
        for place, row in enumerate(rows):
            figures = {**({OWN: row.published} if row.published is not None else {}), **row.others}
            for name, figure_of in figures.items():
                named.setdefault(name, []).append((100 * figure_of, place))
        for mark, (name, points) in zip(MARKS, named.items(), strict=False):
            filled = OTHER if name == OWN else "none"
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, marker=mark, facecolors=filled, edgecolors=OTHER, label=name)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("percent")
        axes.grid(axis="x", color="#e3e6ea")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=6)
        image = io.BytesIO()
        figure.savefig(image, format="png")
    return image.getvalue()
