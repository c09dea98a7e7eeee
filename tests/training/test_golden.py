"""The losses of a small run, written down: whoever changes them must know it and say why.

`python -m tests.training.test_golden` writes golden_losses.txt anew.
"""

import tempfile
from pathlib import Path

import pytest

from illada_core.training.lines import read_metrics
from tests.training.test_loop import run_training
from tests.training.tiny import tiny_recipe, write_packed

GOLDEN = Path(__file__).with_name("golden_losses.txt")


def golden_lines(folder):
    """Train a little with every part of the recipe at work; return step, loss and norm as text."""
    packed = write_packed(folder / "packed", rows=64)
    recipe = tiny_recipe(
        packed, "objective.ratio=stratified", "run.total_tokens=3072", "run.seed=7"
    )
    run_training(recipe, folder / "run")
    return [
        f"{line['kind']} {line['step']} {line['loss']:.6f} {line.get('grad_norm', 0):.6f}"
        for line in read_metrics(folder / "run")
        if "loss" in line
    ]


def test_losses_are_those_written_down(tmp_path):
    expected = GOLDEN.read_text().splitlines()
    found = golden_lines(tmp_path)
    assert len(found) == len(expected) == 25
    for line, golden in zip(found, expected, strict=True):
        kind, step, *values = line.split()
        golden_kind, golden_step, *golden_values = golden.split()
        assert (kind, step) == (golden_kind, golden_step)
        assert list(map(float, values)) == pytest.approx(list(map(float, golden_values)), rel=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text("\n".join(golden_lines(Path(folder))) + "\n")
