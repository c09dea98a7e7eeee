"""Small sudokus: grids to train on, unseen ones with cells hidden, and how many come back right.

    python recipes/sudoku.py write FOLDER [--grids N] [--seed S]
    python recipes/sudoku.py count HIDDEN ANSWERS
    python recipes/sudoku.py bound RUN
    python recipes/sudoku.py show HIDDEN TRACE

A grid is six lines of six digits; each row, column and box of 2 x 3 holds 1 to 6. A token is a
digit or the end of a line. `write` makes grids.jsonl, hidden.jsonl (half of the cells of each
are gaps; none of these grids is in grids.jsonl) and tokenizer.json. `count` judges answers by the
rules and by what was given, since a puzzle may have several solutions. `show` prints how a trace
of `illada generate` filled the first puzzle.
"""

import argparse
import json
import math
import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

SIZE, BOX_ROWS, BOX_COLUMNS = 6, 2, 3
DIGITS = "123456"
TOKENS = SIZE * (SIZE + 1) + 1  # of a grid: digits, ends of lines, eos
GRIDS = 28_200_960  # how many there are: `completions` of 123456, times 6!
UNSEEN, HIDDEN_CELLS = 100, 18
GAP = "[MASK:1]"
CONTROL_TOKENS = ("<eos>", "<mask>", "<unk>")
FRAMES = 7  # grids in a line of `show`


def completions(cells: str) -> Iterator[str]:
    """Yield all grids, as 36 digits, that begin with these."""
    if len(cells) == SIZE**2:
        yield cells
        return
    row, column = divmod(len(cells), SIZE)
    corner = (row - row % BOX_ROWS) * SIZE + column - column % BOX_COLUMNS
    above = cells[corner : corner + BOX_COLUMNS] if row % BOX_ROWS else ""
    taken = {*cells[row * SIZE :], *cells[column::SIZE], *above}
    for digit in DIGITS:
        if digit not in taken:
            yield from completions(cells + digit)


def draw_grids(generator: random.Random) -> Iterator[str]:
    """Yield grids without end, each of all that there are equally likely."""
    ordered = list(completions(DIGITS))  # first line 123456; all others have other names for digits
    while True:
        names = str.maketrans(DIGITS, "".join(generator.sample(DIGITS, SIZE)))
        cells = generator.choice(ordered).translate(names)
        yield "".join(cells[at : at + SIZE] + "\n" for at in range(0, SIZE**2, SIZE))


def is_right(text: str) -> bool:
    """Tell whether a text is a grid by the rules."""
    lines = text.removesuffix("\n").split("\n")
    if [len(line) for line in lines] != [SIZE] * SIZE:
        return False
    columns = ["".join(column) for column in zip(*lines, strict=True)]
    boxes = [
        "".join(line[left : left + BOX_COLUMNS] for line in lines[top : top + BOX_ROWS])
        for top in range(0, SIZE, BOX_ROWS)
        for left in range(0, SIZE, BOX_COLUMNS)
    ]
    return all("".join(sorted(group)) == DIGITS for group in (*lines, *columns, *boxes))


def keeps(puzzle: str, answer: str) -> bool:
    """Tell whether an answer differs from a puzzle in its gaps only."""
    shape = re.escape(puzzle).replace(re.escape(GAP), ".")
    return re.fullmatch(shape, answer, re.DOTALL) is not None


def with_gaps(grid: str, generator: random.Random, count: int = HIDDEN_CELLS) -> str:
    """Return a grid with so many of its cells as gaps of one token each."""
    cells = [at for at, letter in enumerate(grid) if letter in DIGITS]
    hidden = set(generator.sample(cells, count))
    return "".join(GAP if at in hidden else letter for at, letter in enumerate(grid))


def tokenizer_files() -> dict[str, object]:
    """Return tokenizer.json and its companion, by name: a token for each character of a grid."""
    vocabulary = {token: at for at, token in enumerate((*CONTROL_TOKENS, *DIGITS, "\n"))}
    added = [{"id": vocabulary[each], "content": each, "special": True} for each in CONTROL_TOKENS]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": [{**each, **flags} for each in added],
            "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocabulary, "merges": []},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<eos>",
            "pad_token": "<eos>",
            "mask_token": "<mask>",
            "unk_token": "<unk>",
        },
    }


def write(folder: Path, grids: int, seed: int) -> None:
    """Write different grids to train on, unseen ones with gaps, and the tokenizer."""
    generator = random.Random(seed)
    drawn = draw_grids(generator)
    found: dict[str, None] = {}
    while len(found) < grids + UNSEEN:
        found[next(drawn)] = None
    trained, unseen = list(found)[:grids], list(found)[grids:]
    write_lines(folder / "grids.jsonl", ({"text": grid} for grid in trained))
    puzzles = ({"infill": with_gaps(grid, generator)} for grid in unseen)
    write_lines(folder / "hidden.jsonl", puzzles)
    for name, content in tokenizer_files().items():
        (folder / name).write_text(json.dumps(content))


def write_lines(path: Path, records: Iterable[dict[str, str]]) -> None:
    lines = [json.dumps(record) + "\n" for record in records]
    path.write_text("".join(lines))
    print(f"{path}: {len(lines)} lines")


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def count(hidden: Path, answers: Path) -> None:
    """Print how many puzzles are solved, and how many calls of the model each took."""
    puzzles = [line["infill"] for line in read_lines(hidden)]
    lines = read_lines(answers)
    pairs = list(zip(puzzles, (line["text"] for line in lines), strict=True))
    right = sum(keeps(puzzle, answer) and is_right(answer) for puzzle, answer in pairs)
    calls = sum(line["forwards"] for line in lines) / len(lines)
    print(f"{right} of {len(pairs)} unseen grids filled rightly, {calls:.1f} forwards each")


def bound(run: Path) -> None:
    """Print the bound of a run in bits per grid, beside what no model can be below."""
    records = read_lines(run / "metrics.jsonl")
    loss = next(each["loss"] for each in reversed(records) if each["kind"] == "validation")
    bits = loss * TOKENS / math.log(2)
    print(f"bits per unseen grid: at most {bits:.1f}; the least possible is {math.log2(GRIDS):.1f}")


def show(hidden: Path, trace: Path) -> None:
    """Print the first puzzle as it was filled, a grid each few steps; new digits stand out."""
    canvas = list(read_lines(hidden)[0]["infill"].replace(GAP, "·"))
    commits = [each for each in read_lines(trace) if each["prompt"] == 0]
    steps = sorted({each["step"] for each in commits})
    every = math.ceil(len(steps) / (FRAMES - 1))
    frames = [list(frame(canvas, set()))]
    for first in range(0, len(steps), every):
        now = steps[first : first + every]
        new = {each["position"]: each["piece"] for each in commits if each["step"] in now}
        for at, piece in new.items():
            canvas[at] = piece if piece in DIGITS else "?"
        frames.append(list(frame(canvas, set(new))))
    for line in zip(*frames, strict=True):
        print("   ".join(line))


def frame(canvas: list[str], new: set[int]) -> Iterator[str]:
    """Yield the lines of a grid, new digits in colour where there is any."""
    colours = ("\x1b[1;32m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    shown = [piece.join(colours) if at in new else piece for at, piece in enumerate(canvas)]
    for start in range(0, len(canvas) - SIZE, SIZE + 1):
        yield "".join(shown[start : start + SIZE])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--grids", type=int, default=93_000)
    writing.add_argument("--seed", type=int, default=0)
    writing.set_defaults(work=write)
    counting = verbs.add_parser("count")
    counting.add_argument("hidden", type=Path)
    counting.add_argument("answers", type=Path)
    counting.set_defaults(work=count)
    bounding = verbs.add_parser("bound")
    bounding.add_argument("run", type=Path)
    bounding.set_defaults(work=bound)
    showing = verbs.add_parser("show")
    showing.add_argument("hidden", type=Path)
    showing.add_argument("trace", type=Path)
    showing.set_defaults(work=show)
    asked = vars(parser.parse_args())
    asked.pop("work")(**asked)


if __name__ == "__main__":
    main()
