"""A picture of a puzzle being filled, as an SVG that moves: the first thing in the README.

    python benchmarks/filling_picture.py HIDDEN TRACE OUTPUT [--prompt N]

HIDDEN is the demo's hidden.jsonl, TRACE what `illada generate --jsonl HIDDEN --trace TRACE` wrote,
N the puzzle, from 0. Colours tell how sure the model was, small numbers the step. What shows no
movement shows the filled grid.
"""

import argparse
import json
from pathlib import Path

SIZE, CELL, MARGIN, TOP = 6, 46, 18, 18
GAP = "[MASK:1]"
STEP_S, HOLD_S = 0.45, 3.0
PAPER, INK, LINE, MASK = "#ffffff", "#2b2f36", "#b8bec7", "#d5dae1"
UNSURE, SURE = (232, 163, 61), (63, 160, 107)
LEAST = 0.5  # this sure, and below, is the colour UNSURE
FONT = "ui-monospace, 'DejaVu Sans Mono', monospace"


def colour(confidence: float) -> str:
    """Return the colour between UNSURE and SURE of a probability."""
    share = max(confidence - LEAST, 0.0) / (1 - LEAST)
    mixed = (round(a + (b - a) * share) for a, b in zip(UNSURE, SURE, strict=True))
    return f"rgb({','.join(map(str, mixed))})"


def place(position: int) -> tuple[int, int]:
    """Return the corner of a cell from its place in the text; each line ends with a newline."""
    row, column = divmod(position, SIZE + 1)
    return MARGIN + column * CELL, TOP + row * CELL


def box(x: int, y: int, fill: str) -> str:
    side = CELL - 4
    return f'<rect x="{x + 2}" y="{y + 2}" width="{side}" height="{side}" rx="6" fill="{fill}"/>'


def text(x: int, y: int, size: int, fill: str, words: str, anchor: str = "start") -> str:
    place = f'x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}">{words}</text>'


def digit(x: int, y: int, fill: str, words: str) -> str:
    return text(x + CELL // 2, y + CELL // 2 + 8, 23, fill, words, "middle")


def appearing(parts: str, at_s: float, loop_s: float) -> str:
    """Return parts that are not seen before a moment of each loop."""
    share = max(at_s / loop_s, 0.0001)
    return (
        f'<g>{parts}<animate attributeName="opacity" values="0;1;1" calcMode="discrete" '
        f'keyTimes="0;{share:.4f};1" dur="{loop_s:.2f}s" repeatCount="indefinite"/></g>'
    )


def drawn(puzzle: str, commits: list[dict]) -> str:
    """Return the SVG of a puzzle and of what was written into its gaps, step by step."""
    steps = max(each["step"] for each in commits) + 1
    loop_s = (steps + 1) * STEP_S + HOLD_S
    width, height = 2 * MARGIN + SIZE * CELL, 2 * TOP + SIZE * CELL
    parts = [f'<rect width="{width}" height="{height}" rx="12" fill="{PAPER}"/>']
    for position, given in enumerate(puzzle.replace(GAP, "?")):
        if given != "\n":
            x, y = place(position)
            parts.append(box(x, y, MASK) if given == "?" else digit(x, y, INK, given))
    for each in commits:
        x, y = place(each["position"])
        number = text(x + 7, y + 14, 10, PAPER, str(each["step"] + 1))
        cell = box(x, y, colour(each["confidence"])) + digit(x, y, PAPER, each["piece"]) + number
        parts.append(appearing(cell, (each["step"] + 1) * STEP_S, loop_s))
    for index in range(SIZE + 1):
        along, across = MARGIN + index * CELL, TOP + index * CELL
        parts.append(line(along, TOP, along, TOP + SIZE * CELL, index % 3 == 0))
        parts.append(line(MARGIN, across, MARGIN + SIZE * CELL, across, index % 2 == 0))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="{FONT}">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def line(x1: int, y1: int, x2: int, y2: int, is_border: bool) -> str:
    stroke, width = (INK, 2) if is_border else (LINE, 0.7)
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="{width}"/>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("hidden", "trace", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--prompt", type=int, default=0)
    asked = parser.parse_args()
    puzzle = json.loads(asked.hidden.read_text().splitlines()[asked.prompt])["infill"]
    commits = [json.loads(each) for each in asked.trace.read_text().splitlines()]
    asked.output.write_text(drawn(puzzle, [c for c in commits if c["prompt"] == asked.prompt]))


if __name__ == "__main__":
    main()
