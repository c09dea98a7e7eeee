"""The picture of a run, from the lines of its metrics.

Above, the training and the validation loss; below, the learning rate and the loss by masking
ratio. The only owner of matplotlib.
"""

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

INK, TRAIN, VALIDATION, ALERT = "#2b2f36", "#3b6ea8", "#d1682b", "#c0392b"
MOST_POINTS = 1500
RATIO_CURVES = 6
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Curve:
    """Values against tokens."""

    tokens: NDArray[np.float64]
    values: NDArray[np.float64]


def curve(lines: list[dict[str, Any]], name: str) -> Curve:
    """Return one value of many lines, without those where it is null."""
    pairs = [(line["tokens"], line[name]) for line in lines if line.get(name) is not None]
    columns = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Curve(columns[0], columns[1])


def thin(full: Curve, points: int) -> Curve:
    """Return the means of about `points` neighbouring groups."""
    size = -(-len(full.tokens) // points)
    starts = np.arange(0, len(full.tokens), size)
    counts = np.diff(np.append(starts, len(full.tokens)))
    return Curve(
        np.add.reduceat(full.tokens, starts) / counts,
        np.add.reduceat(full.values, starts) / counts,
    )


def smooth(full: Curve, share: float = 0.04, least: int = 10) -> Curve:
    """Return the mean over a window of `share` of the points, narrow only where the run begins."""
    count = len(full.values)
    middle = np.arange(count)
    reach = np.minimum(max(int(share * count), least) // 2, middle)
    first, stop = middle - reach, np.minimum(middle + reach + 1, count)
    sums = np.append(0.0, np.cumsum(full.values))
    return Curve(full.tokens, (sums[stop] - sums[first]) / (stop - first))


def picture(title: str, by_kind: dict[str, list[dict[str, Any]]]) -> bytes:
    """Return the PNG of a run's lines by kind."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 7.2), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
        parts: Any = figure.subfigures(2, 1, height_ratios=(1.35, 1))
        above, below = parts
        left, right = below.subplots(1, 2)
        draw_losses(above.subplots(), by_kind)
        draw_rate(left, by_kind)
        draw_ratios(right, by_kind)
        image = io.BytesIO()
        figure.savefig(image, format="png")
    return image.getvalue()


def draw_losses(axes: Any, by_kind: dict[str, list[dict[str, Any]]]) -> None:
    train = thin(curve(by_kind["step"], "loss"), MOST_POINTS)
    mean = smooth(train)
    axes.plot(train.tokens, train.values, color=TRAIN, alpha=0.25, linewidth=0.7)
    axes.plot(mean.tokens, mean.values, color=TRAIN, linewidth=1.8, label="training, smoothed")
    low, high = float(np.quantile(train.values, 0.002)), float(train.values.max())
    validation = curve(by_kind.get("validation", []), "loss")
    if len(validation.tokens):
        last = [line for line in by_kind["validation"] if line.get("loss") is not None][-1]
        mask = last.get("mask")
        bounded = "responses" if mask == "response" else "fixed noise"
        axes.plot(
            validation.tokens,
            validation.values,
            color=VALIDATION,
            marker="o",
            markersize=4,
            linewidth=1.4,
            label=f"validation, {bounded}",
        )
        low = min(low, float(validation.values.min()))
        axes.annotate(
            last_validation(last),
            (validation.tokens[-1], validation.values[-1]),
            xytext=(0, 30),
            textcoords="offset points",
            ha="right",
            color=VALIDATION,
        )
    margin = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - margin, high + margin)
    mark_dropped(axes, by_kind.get("dropped", []))
    mark_decay(axes, by_kind.get("decay", []), named=True)
    mark_stretches(axes, by_kind.get("stretch", []), INK)
    label_tokens(axes)
    axes.set_ylabel("nats per token")
    axes.set_title("Loss of training, and the bound on held-out rows")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)


def last_validation(line: dict[str, Any]) -> str:
    """Say the newest validation in a few words."""
    words = f"{line['loss']:.3f} nats per token"
    if line.get("bits_per_byte") is not None:
        words += f", {line['bits_per_byte']:.3f} bits per byte"
    return words


def mark_dropped(axes: Any, lines: list[dict[str, Any]]) -> None:
    if lines:
        axes.plot(
            [line["tokens"] for line in lines],
            np.full(len(lines), 0.015),
            transform=axes.get_xaxis_transform(),
            color=ALERT,
            marker="|",
            linestyle="none",
            markersize=9,
            label=f"dropped steps ({len(lines)})",
        )


def mark_decay(axes: Any, lines: list[dict[str, Any]], named: bool) -> None:
    for line in lines:
        axes.axvline(line["tokens"], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        if named:
            axes.annotate(
                f"decay begins ({line.get('reason')})",
                (line["tokens"], 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(5, -12),
                textcoords="offset points",
            )


def mark_stretches(axes: Any, lines: list[dict[str, Any]], colour: Any) -> None:
    """Mark where settings changed at a resume, and name the keys."""
    for line in lines:
        axes.axvline(line["tokens"], color=colour, linewidth=0.9, linestyle=":")
        axes.annotate(
            ", ".join(name.partition(".")[2] for name in line.get("changed") or {}),
            (line["tokens"], 0.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(3, 6),
            textcoords="offset points",
            rotation=90,
            fontsize=7.5,
            color=colour,
        )


def draw_rate(axes: Any, by_kind: dict[str, list[dict[str, Any]]]) -> None:
    rate = curve(by_kind["step"], "lr")
    axes.plot(rate.tokens, rate.values, color=INK, linewidth=1.8)
    axes.set_ylim(0, 1.08 * float(rate.values.max(initial=0.0)) or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    mark_decay(axes, by_kind.get("decay", []), named=False)
    label_tokens(axes)
    axes.set_title("Learning rate")


def draw_ratios(axes: Any, by_kind: dict[str, list[dict[str, Any]]]) -> None:
    """Draw loss against masking ratio for some validations, the newest darkest."""
    axes.set_title("Validation loss by masking ratio")
    axes.set_xlabel("masking ratio")
    axes.set_ylabel("nats per hidden token")
    axes.set_xlim(0, 1)
    lines = [line for line in by_kind.get("validation", []) if line.get("loss_by_ratio")]
    if not lines:
        axes.text(0.5, 0.5, "no validation yet", transform=axes.transAxes, ha="center")
        return
    chosen = sorted(set(np.linspace(0, len(lines) - 1, RATIO_CURVES).round().astype(int).tolist()))
    for place, number in enumerate(chosen):
        values = np.array(
            [np.nan if value is None else value for value in lines[number]["loss_by_ratio"]]
        )
        centres = (np.arange(len(values)) + 0.5) / len(values)
        shade = 0.25 + 0.65 * (place + 1) / len(chosen)
        axes.plot(
            centres,
            values,
            color=colormaps["Oranges"](shade),
            marker="o",
            markersize=3.5,
            linewidth=1.8 if place == len(chosen) - 1 else 1.1,
            label=f"{tokens_words(lines[number]['tokens'])} tokens",
        )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="after", fontsize=8.5)


def label_tokens(axes: Any) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: tokens_words(tokens)))
    axes.set_xlim(left=0)
    axes.margins(x=0.01)
    axes.set_xlabel("tokens")


def tokens_words(tokens: float) -> str:
    """Write a count of tokens with an SI prefix."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= factor:
            return f"{tokens / factor:.3g} {prefix}"
    return f"{tokens:.3g}"
