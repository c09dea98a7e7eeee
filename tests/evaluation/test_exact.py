"""Exact likelihoods of causal models, and what is told of every number: exact, a bound, neither."""

import json

import numpy as np
import pytest
import torch

import illada_core
from illada_core.errors import DataError, UsageError
from illada_core.evaluation.items import ScoringSettings, complete_scoring, prepare_item, rule_for
from illada_core.evaluation.perplexity import windows
from illada_core.evaluation.questions import reader_for
from illada_core.evaluation.scoring import score
from illada_core.evaluation.shapes import read_choice_request
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.requests import Prompting
from tests.byte_model import write_byte_model
from tests.causal_model import write_causal_model
from tests.conftest import REPO

FIXTURES = REPO / "tests" / "fixtures"
BOTH = pytest.mark.parametrize("name", ["qwen2-tiny", "smollm2-tiny"])


@BOTH
def test_sums_equal_the_reference(name):
    model = illada_core.load(FIXTURES / name)
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    items = [
        {"prompt_ids": case["prefix"], "choices_ids": [case["continuation"], [7, 8]]}
        for case in expected["loglikelihood"]
    ]
    for verdict, case in zip(model.score(items), expected["loglikelihood"], strict=True):
        assert verdict.sums[0] == pytest.approx(case["sum"], abs=1e-3)
        assert (verdict.kind, verdict.forwards) == ("exact", 2)
        assert verdict.fields()["kind"] == "exact"


@BOTH
def test_windows_sum_up_to_the_rolling_likelihood(name):
    model = illada_core.load(FIXTURES / name)
    expected = json.loads((FIXTURES / name / "expected.json").read_text())["rolling"]
    ids = np.array(expected["ids"])
    reader = reader_for(model.model, model.checkpoint.mask_id, 0.0, "cpu", None)
    rule = rule_for(ScoringSettings(), model.checkpoint)
    whole = list(windows(ids[1:], 256, 256, ids[:1].tolist()))
    (scored,) = [each for batch in score(whole, rule, reader) for each in batch.scores]
    assert scored.sums[0] == pytest.approx(expected["sum_of_all_but_first"], abs=1e-3)
    pieces = list(windows(ids[1:], len(ids), 3, ids[:1].tolist()))
    found = [each.sums[0] for batch in score(pieces, rule, reader) for each in batch.scores]
    assert len(found) == 6
    assert sum(found) == pytest.approx(expected["sum_of_all_but_first"], abs=1e-3)


def test_the_perplexity_of_a_text_is_exact_and_its_first_token_is_given(tmp_path):
    model = illada_core.load(write_causal_model(tmp_path / "model"))
    text = "né à Paris"
    ids = torch.tensor([6 + byte for byte in text.encode()])
    with torch.inference_mode():
        logits = model.model.logits_at(ids, (len(ids),), torch.arange(1, len(ids)))
    nats = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
    found = model.perplexity(text)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert (found.kind, found.standard_error) == ("exact", 0.0)
    assert (found.tokens, found.bytes) == (len(ids) - 1, len(ids) - 1)
    assert found.fields()["kind"] == "exact"
    with_bos = model.perplexity(text, bos=True)
    assert (with_bos.tokens, with_bos.bytes) == (len(ids), len(ids))
    with pytest.raises(DataError, match="the text is one token"):
        model.perplexity("n")


def test_numbers_of_diffusion_models_are_bounds_or_neither(tmp_path):
    write_byte_model(tmp_path / "model")
    model = illada_core.load(tmp_path / "model")
    kinds = {
        rule: model.score("ab", ["c", "d"], rule=rule).kind
        for rule in ("confidence", "likelihood", "one-shot")
    }
    assert kinds == {"confidence": "score", "likelihood": "bound", "one-shot": "score"}
    assert model.perplexity("abcd", samples=2).kind == "bound"
    with pytest.raises(UsageError, match="the rule exact needs a model that writes from left"):
        model.score("ab", ["c"], rule="exact")


def test_a_causal_model_is_scored_exactly_whatever_the_rule_asks():
    """Rules come from presets that are made for diffusion models; the kind tells what was done."""
    checkpoint = open_checkpoint(FIXTURES / "qwen2-tiny")
    for rule in ("confidence", "likelihood", "one-shot", "exact"):
        settings = ScoringSettings(rule=rule, pick_only=rule == "confidence", visible_eos=True)
        done = complete_scoring(settings, checkpoint)
        assert (done.rule, done.pick_only, done.visible_eos) == ("exact", False, False)
    with pytest.raises(UsageError, match="nothing to leave out"):
        complete_scoring(ScoringSettings(cfg=1.0), checkpoint)


@pytest.mark.parametrize("name", ["qwen2-tiny", "dream-tiny"])
def test_nothing_speaks_of_a_first_token(name):
    request = read_choice_request(None, {"prompt_ids": [], "choices_ids": [[4, 5]]})
    with pytest.raises(DataError, match="the prompt has no tokens"):
        prepare_item(request, open_checkpoint(FIXTURES / name), ScoringSettings(), Prompting())
