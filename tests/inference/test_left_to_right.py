"""Models whose attention is causal continue text as their reference does, keys and values kept."""

import json
from dataclasses import replace

import pytest
import torch

import illada_core
from illada_core.errors import DataError, UsageError
from illada_core.inference.canvas import continuation
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.rules import NO_MASK
from illada_core.inference.sampler import Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.inference.text_sampler import complete_settings
from tests.causal_model import write_causal_model
from tests.conftest import REPO

FIXTURES = REPO / "tests" / "fixtures"
BOTH = pytest.mark.parametrize("name", ["qwen2-tiny", "smollm2-tiny"])


def loaded(name):
    return illada_core.load(FIXTURES / name), json.loads(
        (FIXTURES / name / "expected.json").read_text()
    )


@BOTH
def test_greedy_continuations_equal_the_reference_alone_and_together(name):
    model, expected = loaded(name)
    cases = expected["greedy"]
    for case in cases:
        new_tokens = case["new_tokens"]
        found = model.generate({"prompt_ids": case["prompt"]}, max_new_tokens=new_tokens)
        assert list(found.output_ids) == case["continuation"]
        assert found.exact
        # Each step computes the token before and the open place after it.
        assert found.rows_computed == len(case["prompt"]) + 1 + 2 * (new_tokens - 1)
    prompts = [{"prompt_ids": case["prompt"]} for case in cases]
    together = model.generate(prompts, max_new_tokens=cases[0]["new_tokens"])
    for found, case in zip(together, cases, strict=True):
        shorter = min(len(case["continuation"]), len(found.output_ids))
        assert list(found.output_ids)[:shorter] == case["continuation"][:shorter]


@BOTH
def test_what_is_kept_changes_nothing(name):
    """Compared with a sampler that computes every row at every step, with the same noise."""
    model, expected = loaded(name)
    settings = Settings(max_new_tokens=12, temperature=0.8, top_p=0.9, seed=5)
    tasks = [continuation(case["prompt"], 12) for case in expected["greedy"]]
    plain = Sampler(model.model.logits_at, model.checkpoint.ids)
    whole = generate(plain, tasks, replace(settings, block_length=1))
    asked = {key: vars(settings)[key] for key in ("max_new_tokens", "temperature", "top_p", "seed")}
    kept = model.generate([{"prompt_ids": case["prompt"]} for case in expected["greedy"]], **asked)
    assert [each.output_ids for each in kept] == [each.output_ids for each in whole]
    assert len({each.output_ids for each in whole}) > 1
    assert sum(each.rows_computed for each in kept) < sum(each.rows_computed for each in whole)


def test_draws_follow_the_tempered_distribution_of_a_plain_loop():
    model, expected = loaded("smollm2-tiny")
    prompt = expected["greedy"][0]["prompt"]
    with torch.inference_mode():
        ids_T = torch.tensor(prompt)
        last_V = model.model.logits_at(torch.cat((ids_T, ids_T[:1])), (9,), torch.tensor([8]))[0]
    expected_V = (last_V / 1.5).softmax(-1)
    drawn = torch.zeros_like(expected_V)
    request = {"prompt_ids": prompt}
    for text in model.sample(request, 400, max_new_tokens=1, temperature=1.5):
        drawn[text.output_ids[0] if text.output_ids else 2] += 1 / 400
    assert (drawn - expected_V).abs().sum() < 0.35


def test_a_text_ends_at_eos_and_before_a_stop_string(tmp_path):
    model = illada_core.load(write_causal_model(tmp_path / "model"))
    text = model.generate("abc", max_new_tokens=20, temperature=1.0, seed=2).text
    assert len(text) > 3
    cut = model.generate("abc", max_new_tokens=20, temperature=1.0, seed=2, stop=[text[2:4]])
    assert cut.finish_reason == "stop"
    assert cut.text == text[: text.index(text[2:4])]
    first = model.generate("abc", max_new_tokens=1).output_ids[0]
    ended = model.generate("abc", max_new_tokens=5, stop_ids=[first])
    assert (ended.finish_reason, ended.output_ids) == ("stop", ())


def test_it_takes_no_mask_and_fills_no_gaps():
    checkpoint = open_checkpoint(FIXTURES / "qwen2-tiny")
    assert checkpoint.mask_id == NO_MASK
    with pytest.raises(UsageError, match="--mask-id 506: the model's attention is causal"):
        open_checkpoint(FIXTURES / "qwen2-tiny", mask_id=506)
    model = illada_core.load(FIXTURES / "qwen2-tiny")
    with pytest.raises(DataError, match="cannot fill gaps"):
        model.generate({"infill_ids": [4, 5, 6]})


@pytest.mark.parametrize(
    "asked",
    [
        {"canvas": "fixed"},
        {"cfg": 1.0},
        {"remasking": "random"},
        {"threshold": 0.9},
        {"refresh_every": 2},
    ],
)
def test_settings_of_masks_are_refused(asked):
    checkpoint = open_checkpoint(FIXTURES / "qwen2-tiny")
    (name,) = asked
    with pytest.raises(UsageError, match=f"writes from left to right, so {name} does not"):
        complete_settings(Settings(**asked), checkpoint)
