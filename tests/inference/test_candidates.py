"""Choice of tokens: Gumbel-max, top-p, guards and confidences, against slow formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from illada_core.errors import UsageError
from illada_core.inference import candidates as module
from illada_core.inference.candidates import Choosing, OpenRows, guide
from illada_core.inference.draws import gumbel_noise
from illada_core.inference.rules import ModelIds, Rules
from illada_core.inference.settings import Settings

MASK, EOS, EOT, VOCABULARY = 5, 2, 3, 11
IDS = ModelIds(MASK, eos_ids=(EOS, EOT))
RULES = Rules(ids=IDS)


def rules_of(**settings):
    return Rules(ids=IDS, settings=Settings(**settings))


def asked(rows, key=1, step=0, may_end=True):
    return OpenRows(
        seed_M2=np.zeros((rows, 2), dtype=np.int64),
        key_M=np.full(rows, key),
        step_M=np.full(rows, step),
        position_M=np.arange(rows),
        may_end_M=np.full(rows, may_end),
    )


def choose(logits, rows, rules):
    return Choosing(rows, rules, "cpu").choose(logits)


def random_logits(rows, seed=0, scale=2.0):
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * scale


def test_greedy_choice_is_the_argmax_without_the_mask_and_its_full_softmax():
    logits = random_logits(50)
    logits[:, MASK] += 4
    chosen = choose(logits.clone(), asked(50), RULES)
    without = logits.clone()
    without[:, MASK] = -torch.inf
    assert chosen.token.tolist() == without.argmax(-1).tolist()
    expected = logits.softmax(-1)[torch.arange(50), chosen.token]
    np.testing.assert_allclose(chosen.probability, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("guard", ["none", "logits", "confidence"])
def test_mask_is_never_chosen(temperature, guard):
    logits = random_logits(400)
    logits[:, MASK] = 60.0
    rules = rules_of(temperature=temperature, eos_guard=guard)
    assert MASK not in choose(logits, asked(400), rules).token


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_past_the_vocabulary_are_never_chosen_but_count_in_the_softmax(temperature):
    logits = random_logits(200)
    rules = Rules(ids=replace(IDS, vocab_size=8), settings=Settings(temperature=temperature))
    chosen = choose(logits.clone(), asked(200), rules)
    assert chosen.token.max() < 8
    expected = logits.softmax(-1)[torch.arange(200), chosen.token]
    np.testing.assert_allclose(chosen.probability, expected, rtol=1e-6)


def test_log_form_chooses_as_the_power_form_does():
    logits = random_logits(300).double()
    keys = torch.cat((torch.arange(300)[None], torch.zeros(4, 300).long()))
    noise = gumbel_noise(keys, VOCABULARY)
    uniform = torch.exp(-torch.exp(-noise))
    temperature = 0.7
    power_form = logits.exp() / (-uniform.log()) ** temperature
    power_form[:, MASK] = 0
    rules = rules_of(temperature=temperature)
    chosen = choose(logits.float(), asked(300, key=0), rules)
    assert chosen.token.tolist() == power_form.argmax(-1).tolist()


def test_samples_follow_the_tempered_softmax():
    rows, temperature = 20_000, 0.8
    logits = random_logits(1).expand(rows, -1).clone()
    chosen = choose(logits.clone(), asked(rows), rules_of(temperature=temperature))
    scaled = logits[0].double() / temperature
    scaled[MASK] = -torch.inf
    expected = scaled.softmax(-1).numpy() * rows
    counts = np.bincount(chosen.token, minlength=VOCABULARY)
    likely = expected > 5
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi_square < 30  # 9 degrees of freedom at most: exceeded once in 2,000 seeds


def test_temperature_does_not_touch_the_confidence():
    logits = random_logits(30)
    chosen = choose(logits.clone(), asked(30), rules_of(temperature=3.0))
    expected = logits.softmax(-1)[torch.arange(30), chosen.token]
    np.testing.assert_allclose(chosen.confidence, expected, rtol=1e-6)


def test_top_p_draws_only_from_the_nucleus_and_all_of_it():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1, 1e-9, 1e-9, 1e-9]]).log()
    rules = Rules(ids=ModelIds(6), settings=Settings(temperature=1.0, top_p=0.65))
    chosen = choose(logits.expand(2000, -1).clone(), asked(2000), rules)
    assert set(chosen.token.tolist()) == {0, 1}
    chosen = choose(
        logits.expand(2000, -1).clone(),
        asked(2000),
        replace(rules, settings=Settings(temperature=1.0, top_p=0.75)),
    )
    assert set(chosen.token.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logit_guard_never_chooses_a_guarded_id(temperature):
    logits = random_logits(500)
    logits[:, EOS] += 3
    logits[:, EOT] += 3
    rules = rules_of(eos_guard="logits", temperature=temperature)
    assert not {EOS, EOT} & set(choose(logits, asked(500), rules).token.tolist())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("remasking", ["low-confidence", "margin", "entropy"])
def test_confidence_guard_keeps_the_choice_and_puts_guarded_ids_last(temperature, remasking):
    logits = random_logits(500)
    logits[:, EOS] += 3
    settings = {"temperature": temperature, "remasking": remasking}
    free = choose(logits.clone(), asked(500), rules_of(**settings))
    guarded = choose(logits.clone(), asked(500), rules_of(**settings, eos_guard="confidence"))
    assert guarded.token.tolist() == free.token.tolist()
    is_guarded = torch.isin(free.token, torch.tensor([EOS, EOT]))
    assert is_guarded.any()
    assert guarded.confidence[is_guarded].isneginf().all()
    assert guarded.confidence[~is_guarded].isfinite().all()


def test_ends_are_not_chosen_where_a_text_may_not_end():
    logits = random_logits(100)
    logits[:, EOS] += 50
    assert EOS not in choose(logits, asked(100, may_end=False), RULES).token


def test_margin_and_entropy_are_those_of_the_softmax():
    logits = random_logits(40)
    p = logits.double().softmax(-1).numpy()
    entropy = choose(logits.clone(), asked(40), rules_of(remasking="entropy"))
    np.testing.assert_allclose(entropy.confidence, (p * np.log(p)).sum(-1), rtol=1e-5)
    margin = choose(logits.clone(), asked(40), rules_of(remasking="margin"))
    best = np.sort(np.delete(p, MASK, axis=1), axis=-1)
    np.testing.assert_allclose(margin.confidence, best[:, -1] - best[:, -2], rtol=1e-4)


def test_random_confidence_is_uniform_and_keyed():
    rules = rules_of(remasking="random")
    drawn = choose(random_logits(4000), asked(4000), rules).confidence
    assert 0.48 < drawn.mean() < 0.52
    again = choose(random_logits(4000, seed=1), asked(4000), rules).confidence
    assert (drawn == again).all()
    later = choose(random_logits(4000), asked(4000, step=1), rules).confidence
    assert (drawn != later).float().mean() > 0.99


def test_chunks_of_rows_change_nothing(monkeypatch):
    rules = rules_of(temperature=1.0, top_p=0.9, entropy_bound=0.1)
    whole = choose(random_logits(64), asked(64), rules)
    monkeypatch.setitem(module.CHUNK_ELEMENTS, "cpu", 3 * VOCABULARY)
    pieces = choose(random_logits(64), asked(64), rules)
    assert pieces.token.tolist() == whole.token.tolist()
    assert pieces.entropy.tolist() == whole.entropy.tolist()


def test_guidance_moves_away_from_the_unconditional_logits():
    conditional, unconditional = random_logits(3), random_logits(3, seed=1)
    torch.testing.assert_close(guide(conditional, unconditional, 0.0), conditional)
    torch.testing.assert_close(
        guide(conditional, unconditional, 1.5), 2.5 * conditional - 1.5 * unconditional
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_length": 0},
        {"steps_per_block": 0},
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"cfg": -1.0},
        {"threshold": 0.9, "factor": 1.0},
        {"end_thinking_boost": 1.0},
        {"stop_ids": (MASK,)},
    ],
)
def test_rules_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(UsageError):
        rules_of(**wrong)


def test_rules_that_contradict_the_models_ids_are_refused():
    with pytest.raises(UsageError):
        Rules(ids=ModelIds(MASK, eos_ids=(MASK,)))
    with pytest.raises(UsageError):
        Rules(ids=ModelIds(MASK), settings=Settings(eos_guard="logits"))
