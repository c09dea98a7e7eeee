"""Whatever the files of a run, a recipe or a preset say: they are read, or one sentence is told."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from illada_core.inference.presets import load_preset, packaged_presets
from illada_core.training import run_folder
from illada_core.training.checkpoint import Progress, read_progress
from illada_core.training.curves import draw_curves
from illada_core.training.lines import read_metrics
from illada_core.training.metrics import StepLines, record_start
from illada_core.training.parallel import Ranks
from illada_core.training.past import changed_circumstances, circumstances
from illada_core.training.recipe.files import load_recipe, packaged_recipes
from illada_core.training.recipe.plan import DEVICE_KINDS, HERE, plan_run
from illada_core.training.resuming import last_start
from illada_core.training.setup import outline
from tests.fuzz.hostile import decode_or_refuse, fuzzed, hostile_json, hostile_toml

CPU = torch.device("cpu")
FACTS = {"dataset": "d" * 64, "base": None, "device": "cpu", "ranks": 1, "threads": 1, "torch": "2"}
STEP = {"kind": "step", "step": 1, "tokens": 32, "loss": 3.5, "lr": 1e-3, "tokens_per_second": 9.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_folder.write_checkpoint(
        folder, 7, lambda path: None, {"progress": asdict(Progress(step=7)), **FACTS}
    )
    return folder


def signed(text):
    """Give a state the hash that belongs to it, if it can have one."""
    try:
        content = json.loads(text)
        content.pop("sha256")
        return json.dumps({**content, "sha256": run_folder.content_sha256(content)})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return text


@fuzzed(60)
@given(data=st.data())
def test_any_state(run, data):
    path = run_folder.checkpoint_path(run, 7) / "state.json"
    before = path.read_bytes()

    def resume():
        _, facts = read_progress(path.parent, FACTS["dataset"], Ranks(0, 1, CPU))
        changed_circumstances(facts, circumstances(Ranks(0, 1, CPU), 1))

    try:
        text = data.draw(hostile_json(json.loads(before)))
        path.write_text(signed(text) if data.draw(st.booleans()) else text)
        decode_or_refuse(resume, path.parent)
    finally:
        path.write_bytes(before)


@fuzzed(40)
@given(data=st.data())
def test_any_metrics(run, data):
    path = run / "metrics.jsonl"
    lines = [STEP, {**STEP, "step": 2}, {"kind": "validation", "step": 2, "loss": 3.0}]
    texts = [json.dumps(line) for line in lines]
    at = data.draw(st.integers(0, 2))
    texts[at] = data.draw(hostile_json(lines[at]))
    path.write_text("\n".join(texts) + "\n")
    decode_or_refuse(lambda: read_metrics(run), path)
    decode_or_refuse(lambda: draw_curves(run), run)
    decode_or_refuse(lambda: StepLines(path, 1).close(), path)


@fuzzed(30)
@given(data=st.data())
def test_any_environment(run, data):
    path = run / "environment.json"
    start = {"time": "2026", "step": 0, "directory": "/", "local_world": 2}
    start |= {"world": 4, "nodes": "auto", "restarts": 3}
    path.write_text(data.draw(hostile_json({"starts": [start]})))
    decode_or_refuse(lambda: run_folder.refuse_foreign(run), run)
    decode_or_refuse(lambda: record_start(run, 0, Ranks(0, 1, CPU), "sdpa"), path)
    decode_or_refuse(lambda: last_start(run), path)


@pytest.mark.parametrize("name", ["demo", "8b-sft"])
@fuzzed(60)
@given(data=st.data())
def test_any_recipe(name, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "hostile.toml"
    text = data.draw(hostile_toml(packaged_recipes()[name].read_text()))
    path.write_text(text, errors="surrogatepass")

    def plan():
        recipe = load_recipe(path)
        if not recipe.model.ckpt and recipe.model.layers:
            config, total, _ = outline(recipe)
            here = DEVICE_KINDS["L4"] if recipe.plan.device == HERE else None
            plan_run(recipe, config, total, float(config.max_length), here)

    decode_or_refuse(plan)
    decode_or_refuse(lambda: load_recipe(path, [f"run.seed={text[:200]}"]))


@fuzzed(60)
@given(data=st.data())
def test_any_preset(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "preset.toml"
    text = packaged_presets()["gsm8k-instruct"].read_text()
    path.write_text(data.draw(hostile_toml(text)), errors="surrogatepass")
    decode_or_refuse(lambda: load_preset(str(path)), path)
