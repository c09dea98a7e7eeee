"""`make demo` at a tiny scale: the script itself, and what it draws and counts."""

import json
import random
import subprocess
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from itertools import permutations

import pytest

from tests.conftest import REPO, command_environment

GRID = "123456\n456123\n231564\n564231\n312645\n645312\n"
# The pieces of the script that are large, and what stands in their place here.
SMALL = {
    'export PATH="$here/.venv/bin:$PATH"': "",
    "corpus=$(python -c 'import sysconfig; print(sysconfig.get_path(\"stdlib\"))')": (
        'corpus="$here/illada_core/inference"'
    ),
    'stdlib_pairs.py" .': 'stdlib_pairs.py" . && few pairs.jsonl 60 && few choices.jsonl 2',
    'sudoku.py" write grids': 'sudoku.py" write grids --grids 200 && few grids/hidden.jsonl 3',
    "--holdout 0.05": "--holdout 0.1",
    "--holdout 0.005": "--holdout 0.1",
}
FEW = 'few() { head -n "$2" "$1" > few && mv few "$1"; }\n'
QUICK = "--set run.threads=1 --set log.curves=false --set batch.rows=4"
TINY = {
    "pretrain": f"{QUICK} --set run.total_tokens=2000 --set schedule.warmup_tokens=500",
    "sft": (
        f"{QUICK} --set run.epochs=1 --set schedule.warmup_tokens=500 "
        "--set generation.max_new_tokens=8"
    ),
}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def sudoku():
    """Return recipes/sudoku.py as a module."""
    spec = spec_from_file_location("sudoku", REPO / "recipes" / "sudoku.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return the folder with the pairs, prompts and choices that the demo draws."""
    folder = tmp_path_factory.mktemp("pairs")
    script = REPO / "recipes" / "stdlib_pairs.py"
    subprocess.run([sys.executable, script, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def test_the_pairs_of_the_demo_keep_what_is_held_out_apart(asked):
    learnt = {pair["prompt"] for pair in lines(asked / "pairs.jsonl")}
    held_out = {line["messages"][0]["content"] for line in lines(asked / "held-out.jsonl")}
    assert len(learnt) > 20 * len(held_out) > 400
    assert not learnt & held_out
    for item in lines(asked / "choices.jsonl"):
        assert item["messages"][0]["content"] in held_out
        assert len(set(item["choices"])) == 4


def test_the_grids_are_all_that_there_are(sudoku):
    """Beside a count by whole bands: two lines that fit, then lines that repeat no column."""
    lines_of_six = list(permutations(range(6)))

    def fits(*rows):
        return all(len(set(column)) == len(rows) for column in zip(*rows, strict=True))

    bands = [
        (upper, lower)
        for upper in lines_of_six
        for lower in lines_of_six
        if not {*upper[:3]} & {*lower[:3]}
    ]
    first = [band for band in bands if band[0] == (0, 1, 2, 3, 4, 5)]
    # Two bands leave two digits to each column; the third band is counted from those alone.
    pairs = Counter(tuple(map(frozenset, zip(*band, strict=True))) for band in bands)
    whole = frozenset(range(6))
    counted = sum(
        pairs[tuple(whole - {a, b} - both for a, b, both in zip(*band, columns, strict=True))]
        * times
        for band in first
        for columns, times in pairs.items()
        if fits(*band) and all(not {a, b} & both for a, b, both in zip(*band, columns, strict=True))
    )
    grids = list(sudoku.completions(sudoku.DIGITS))
    assert len(set(grids)) == len(grids) == counted == sudoku.GRIDS // 720


def test_drawn_grids_are_right_and_come_again_with_their_seed(sudoku):
    drawn, again = (sudoku.draw_grids(random.Random(3)) for _ in range(2))
    grids = [next(drawn) for _ in range(50)]
    assert grids == [next(again) for _ in range(50)]
    assert len({grid[:6] for grid in grids}) > 30
    assert all(map(sudoku.is_right, grids))


def test_a_grid_is_right_by_its_rows_columns_and_boxes(sudoku):
    assert sudoku.is_right(GRID)
    rows = GRID.split()
    swapped = [rows[0], rows[2], rows[1], *rows[3:]]  # rows and columns stay right, boxes do not
    shifted = "\n".join([rows[0], rows[0], *rows[2:]])
    doubled = GRID.replace("456123\n", "456124\n")
    for wrong in ("\n".join(swapped), shifted, doubled, GRID[:-7], GRID + "123456\n", ""):
        assert not sudoku.is_right(wrong)


def test_an_answer_keeps_what_was_given(sudoku):
    puzzle = sudoku.with_gaps(GRID, random.Random(0))
    assert puzzle.count(sudoku.GAP) == 18
    assert sudoku.keeps(puzzle, GRID)
    given = next(at for at, letter in enumerate(puzzle) if letter in sudoku.DIGITS)
    at = given - puzzle[:given].count(sudoku.GAP) * (len(sudoku.GAP) - 1)
    other = "2" if GRID[at] != "2" else "3"
    assert not sudoku.keeps(puzzle, GRID[:at] + other + GRID[at + 1 :])
    assert not sudoku.keeps(puzzle, GRID[:-2])


def small_script():
    """Return recipes/demo.sh with little to do."""
    script = (REPO / "recipes" / "demo.sh").read_text()
    for printed, instead in SMALL.items():
        script = script.replace(printed, instead)
    return FEW + script


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the script; return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "bin").mkdir()
    cases = "".join(f'    {verb}) set -- "$@" {sets} ;;\n' for verb, sets in TINY.items())
    for name, call in (("illada", "-m illada_cli "), ("python", "")):
        path = folder / "bin" / name
        changed = f'case "$1" in\n{cases}esac\n' if name == "illada" else ""
        path.write_text(f'#!/bin/sh\n{changed}exec "{sys.executable}" {call}"$@"\n')
        path.chmod(0o755)
    script = REPO / "recipes" / "demo.sh"
    environment = command_environment()
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", small_script(), script, folder / "made"],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "made", done.stdout


def test_the_demo_leads_from_nothing_to_three_models(demo):
    folder, _ = demo
    for run in ("base", "chat", "sudoku"):
        assert (folder / run / "model" / "model.safetensors").exists()
    assert lines(folder / "chat" / "samples.jsonl")
    assert [len(each["scores"]) for each in lines(folder / "scores.jsonl")] == [4, 4]


def test_the_demo_shows_a_puzzle_being_filled_and_counts_what_is_right(demo, sudoku):
    folder, told = demo
    puzzles = [each["infill"] for each in lines(folder / "grids" / "hidden.jsonl")]
    learnt = {each["text"] for each in lines(folder / "grids" / "grids.jsonl")}
    assert len(learnt) == 200
    assert not any(sudoku.keeps(puzzle, grid) for puzzle in puzzles for grid in learnt)
    for name in ("random", "surest", "all-sure"):
        answers = lines(folder / "grids" / f"{name}.jsonl")
        assert all(map(sudoku.keeps, puzzles, [answer["text"] for answer in answers]))
        assert {answer["forwards"] for answer in answers} == {18} or name == "all-sure"
    assert told.count("of 3 unseen grids filled rightly, ") == 3
    assert "the least possible is 24.7" in told
    assert "bits per byte" in told
    filled = (folder / "grids" / "filled.txt").read_text().removesuffix("\n")
    shown = [line.split("   ") for line in told.splitlines() if len(line) == 60 and line[6] == " "]
    frames = ["".join(f"{line}\n" for line in column) for column in zip(*shown, strict=True)]
    assert [frame.count("·") for frame in frames] == [18, 15, 12, 9, 6, 3, 0]
    assert frames[0] == puzzles[0].replace(sudoku.GAP, "·")
    as_shown = [
        letter if letter in sudoku.DIGITS or given == "\n" else "?"
        for letter, given in zip(filled, frames[0], strict=True)
    ]
    assert frames[-1] == "".join(as_shown)
