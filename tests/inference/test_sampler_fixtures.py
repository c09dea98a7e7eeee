"""Law 8: generation with the fixture checkpoints equals the reference implementations."""

import json
from pathlib import Path

import pytest

from illada_core import ModelIds, Sampler, Settings, continuation, generate, load_model

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture(scope="module", params=["illada-tiny", "llada-tiny"])
def reference(request):
    folder = FIXTURES / request.param
    model = load_model(folder, dtype="float32").requires_grad_(False)
    return model, json.loads((folder / "expected.json").read_text())


def settings_of(case, steps_per_block):
    return Settings(
        block_length=case["block_length"],
        steps_per_block=steps_per_block,
        cfg=case.get("cfg_scale", 0.0),
    )


def agree(reference, settings, prompt, budget, grows, written):
    """Compare all blocks that the reference wrote, and then the output cut at eos."""
    model, expected = reference
    mask_id, eos_id = expected["mask_id"], expected["eos_id"]
    task = continuation(prompt, budget, grows)
    endless = generate(Sampler(model.logits_at, ModelIds(mask_id)), [task], settings)[0]
    assert list(endless.output_ids[: len(written)]) == written
    ids = ModelIds(mask_id, eos_ids=(eos_id,))
    done = generate(Sampler(model.logits_at, ids), [task], settings)[0]
    ends = eos_id in written
    assert list(done.output_ids) == (written[: written.index(eos_id)] if ends else written)
    assert done.finish_reason == ("eos" if ends else "length")


def test_fixed_canvas_equals_the_reference(reference):
    for case in reference[1]["cases"]["generate_fixed_canvas"]:
        blocks = case["gen_length"] // case["block_length"]
        settings = settings_of(case, case["steps_total"] // blocks)
        written = case["canvas"][len(case["prompt"]) :]
        agree(reference, settings, case["prompt"], case["gen_length"], False, written)


def test_variable_length_equals_the_reference(reference):
    for case in reference[1]["cases"]["generate_variable_length"]:
        settings = settings_of(case, case["steps_per_block"])
        written = case["tokens"][len(case["prompt"]) :]
        agree(reference, settings, case["prompt"], case["budget"], True, written)


def test_all_cases_in_one_batch_equal_each_alone(reference):
    model, expected = reference
    prompts = [case["prompt"] for case in expected["cases"]["generate_fixed_canvas"]]
    tasks = [continuation(prompt[: 3 + i], 24) for i, prompt in enumerate(prompts)]
    ids = ModelIds(expected["mask_id"])
    settings = Settings(block_length=8, temperature=0.5, cfg=0.5)
    together = generate(Sampler(model.logits_at, ids, batch_tokens=150), tasks, settings)
    for task, done in zip(tasks, together, strict=True):
        assert done.fills == generate(Sampler(model.logits_at, ids), [task], settings)[0].fills
