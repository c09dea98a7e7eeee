"""Runs side by side, from folders written by hand: what is told, what differs, what is damaged."""

import json
import subprocess
import sys

import pytest

from illada_cli.runs.run import shown
from illada_core.files import LOCK
from illada_core.training.curves import draw_curves
from illada_core.training.history import differences, find_runs, read_run
from illada_core.training.recipe.files import find_recipe, load_recipe, to_toml
from tests.conftest import command_environment


def write_run(folder, steps, changes=(), ended=False):
    """Write the folder of a run whose loss at step n is 4 - n / 100, with two validations."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(to_toml(load_recipe(find_recipe("demo"), list(changes))))
    (folder / "environment.json").write_text('{"starts": []}')
    lines = [
        {
            "kind": "step",
            "step": n,
            "tokens": 1000 * n,
            "loss": 4 - n / 100,
            "tokens_per_s": n + 50,
        }
        for n in range(1, steps + 1)
    ]
    for n, bound, bits in ((steps // 2, 3.5, 2.5), (steps, 3.25, 2.25)):
        told = {"kind": "validation", "step": n, "tokens": 1000 * n}
        lines.append({**told, "loss": bound, "bits_per_byte": bits})
    if ended:
        lines.append({"kind": "finished", "step": steps, "tokens": 1000 * steps})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return folder


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "runs" / "a", 40, ended=True)
    write_run(tmp_path / "runs" / "b", 20, ["optimizer.peak_lr=2e-3", "run.threads=1"])
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


def test_what_a_run_tells(runs):
    a, b = map(read_run, find_runs([runs]))
    assert (a.name, a.state, a.step, a.tokens) == ("a", "finished", 40, 40_000)
    assert (b.name, b.state, b.step, b.tokens) == ("b", "stopped", 20, 20_000)
    assert a.loss == pytest.approx(sum(4 - n / 100 for n in range(31, 41)) / 10)
    assert (a.bound, a.bits_per_byte, a.tokens_per_s) == (3.25, 2.25, 90.0)
    assert a.curves()["validation"] == [[20_000, 3.5], [40_000, 3.25]]
    (runs / "b" / LOCK).touch()
    assert read_run(runs / "b").state == "running"


def test_only_what_differs_and_matters_is_told(runs):
    found = [read_run(folder) for folder in find_runs([runs])]
    assert differences(found) == {"optimizer.peak_lr": [0.001, 0.002]}
    assert differences(found[:1]) == {}


def contents(folder):
    """Return every file below a folder with when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_runs_are_shown_as_a_table_and_as_json(illada, runs):
    before = contents(runs)
    head, *rows = illada("runs").stdout.splitlines()
    assert head.split() == [
        *("run", "state", "steps", "tokens", "loss", "bound", "bits/byte", "tok/s"),
        "optimizer.peak_lr",
    ]
    assert rows[0].split()[:3] == ["a", "finished", "40"]
    assert rows[1].split()[-1] == "0.002"
    told = [json.loads(line) for line in illada("runs", runs / "b", "--json").stdout.splitlines()]
    assert [each["run"] for each in told] == ["b"]
    assert told[0]["bound"] == 3.25
    assert contents(runs) == before


def test_keys_that_would_make_lines_too_long_for_the_terminal_are_lines_themselves(runs):
    found = [read_run(folder) for folder in find_runs([runs])]
    apart = differences(found)
    wide = shown(found, apart, None)
    assert shown(found, apart, max(map(len, wide.splitlines()))) == wide
    assert "optimizer.peak_lr" in wide.splitlines()[0]
    for columns in (70, len(wide.splitlines()[0]) - 1):
        head, *_, empty, names, rate = shown(found, apart, columns).splitlines()
        assert head.split()[-1] == "tok/s"
        assert empty == ""
        assert names.split() == ["recipe", "a", "b"]
        assert rate.split() == ["optimizer.peak_lr", "0.001", "0.002"]


def test_the_stretches_of_a_run_are_told_and_drawn(illada, runs):
    path = runs / "b" / "metrics.jsonl"
    changed = {"batch.rows": [4, 8], "schedule.extension": ["none", "rewarm"]}
    stretch = {"kind": "stretch", "step": 11, "tokens": 10_000, "changed": changed}
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:10], json.dumps(stretch), *lines[10:], ""]))
    assert illada("runs", "runs/b").stdout.splitlines()[2:] == [
        'from step 11 on: batch.rows = 8 (was 4), schedule.extension = "rewarm" (was "none")'
    ]
    told = json.loads(illada("runs", "runs/b", "--json").stdout)["stretches"]
    assert told == [{"step": 11, "tokens": 10_000, "changed": changed}]
    assert len(illada("runs").stdout.splitlines()) == 3
    pytest.importorskip("matplotlib")
    draw_curves(runs / "b")
    marked = (runs / "b" / "curves.png").read_bytes()
    path.write_text("\n".join([*lines, ""]))
    draw_curves(runs / "b")
    assert (runs / "b" / "curves.png").read_bytes() != marked


def test_the_last_samples_of_a_run_are_shown(illada, runs):
    sample = {"step": 20, "prompt": "the cat", "text": "s\nat", "original": "sits"}
    lines = [{**sample, "step": 10}, sample, {**sample, "suffix": "down"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (runs / "b" / "samples.jsonl").write_text(text)
    assert illada("runs", "runs/b").stdout.splitlines()[2:] == [
        "samples of step 20, in brackets what was written:",
        "  the cat [s at]  (was: sits)",
        "  the cat [s at] down  (was: sits)",
    ]


def test_a_damaged_run_is_told_and_the_others_are_shown(illada, runs):
    (runs / "a" / "metrics.jsonl").write_text('{"kind": 5}\n')
    done = illada("runs")
    assert "metrics.jsonl, line 1," in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["run", "b"]


def test_a_place_without_runs_is_told(illada, tmp_path):
    assert "holds no run" in illada("runs", tmp_path, code=2).stderr


def test_runs_are_compared_in_one_picture(illada, runs, tmp_path):
    pytest.importorskip("matplotlib")
    illada("runs", "runs/a", "runs/b", "--compare", "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    a, b = json.loads((tmp_path / "both.json").read_text())
    assert b["recipe"] == {"optimizer.peak_lr": 0.002}
    assert a["curves"]["step"][:2] == [[1000, 3.99], [2000, 3.98]]


def test_a_table_needs_no_torch(runs):
    script = (
        "import sys\nfrom illada_cli.app import main\nmain(['runs'])\n"
        "print([name for name in ('torch', 'matplotlib', 'datasets') if name in sys.modules])"
    )
    command, environment = [sys.executable, "-c", script], command_environment()
    done = subprocess.run(command, cwd=runs.parent, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
