"""How many sudokus come back right, by what is kept of keys and values within a block.

The demo's model (`make demo`) fills cells of the grids that it was not trained on: 18 of 36 as in
the demo, or more. An answer is right by the rules, whichever it is, if it keeps what was
given. Every way fills the same puzzles; p is McNemar's against computing all at each step.

    python benchmarks/cache_grids.py [runs/demo] [--cells 18 27 33] [--threads 1] [--threshold 0.9]
"""

import argparse
import random
import sys
import time
from pathlib import Path

import torch

import illada_core
from illada_core.benchmark.statistics import mcnemar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.sudoku import is_right, keeps, read_lines, with_gaps

WAYS = {
    "none": {},
    "every 2 calls": {"refresh_every": 2},
    "every 4 calls": {"refresh_every": 4},
    "every 8 calls": {"refresh_every": 8},
    "vicinity 4": {"vicinity": 4},
    "block": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--cells", type=int, nargs="+", default=[18, 27, 33])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--threshold", type=float)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = illada_core.load(asked.demo / "sudoku", device="cpu")
    given = [line["infill"] for line in read_lines(asked.demo / "grids/hidden.jsonl")]
    grids = [done.text for done in model.infill(given) if done.text and is_right(done.text)]
    print(
        f"{len(grids)} grids of {len(given)}\n\n"
        "| hidden | cache | forwards | rows | CPU | right | p |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for cells in asked.cells:
        generator = random.Random(cells)
        puzzles = [with_gaps(grid, generator, cells) for grid in grids]
        exact: list[bool] = []
        for way, settings in WAYS.items():
            cache = "none" if way == "none" else "block"
            began = time.process_time()
            done = model.infill(puzzles, cache=cache, threshold=asked.threshold, **settings)
            seconds = time.process_time() - began
            pairs = zip(puzzles, done, strict=True)
            right = [keeps(puzzle, each.text) and is_right(each.text) for puzzle, each in pairs]
            exact = exact or right
            won = sum(new and not old for new, old in zip(right, exact, strict=True))
            lost = sum(old and not new for new, old in zip(right, exact, strict=True))
            forwards = sum(each.forwards for each in done) / len(done)
            rows = sum(each.rows_computed for each in done)
            print(
                f"| {cells} | {way} | {forwards:.1f} | {rows:,} | {seconds:.1f} s"
                f" | {sum(right)} | {mcnemar(won, lost):.2g} |"
            )


if __name__ == "__main__":
    main()
