"""Choice of tokens: Gumbel-max, top-p, guards and confidences, against slow formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from illada_core.errors import DataError, UsageError
from illada_core.inference import candidates as module
from illada_core.inference.candidates import OpenRows, choose, guide, gumbel_noise, gumbel_noise_at
from illada_core.inference.rules import ModelIds, Rules
from illada_core.inference.settings import Settings
from illada_core.noise import STREAM_SAMPLER, philox

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


def random_logits(rows, seed=0, scale=2.0):
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * scale


def test_greedy_choice_is_the_argmax_without_the_mask_and_its_full_softmax():
    logits = random_logits(50)
    logits[:, MASK] += 4
    chosen = choose(logits.clone(), asked(50), RULES)
    without = logits.clone()
    without[:, MASK] = -torch.inf
    assert chosen.token_M.tolist() == without.argmax(-1).tolist()
    expected = logits.softmax(-1)[torch.arange(50), torch.from_numpy(chosen.token_M)]
    np.testing.assert_allclose(chosen.probability_M, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("guard", ["none", "logits", "confidence"])
def test_mask_is_never_chosen(temperature, guard):
    logits = random_logits(400)
    logits[:, MASK] = 60.0
    rules = rules_of(temperature=temperature, eos_guard=guard)
    assert MASK not in choose(logits, asked(400), rules).token_M


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_past_the_vocabulary_are_never_chosen_but_count_in_the_softmax(temperature):
    logits = random_logits(200)
    rules = Rules(ids=replace(IDS, vocab_size=8), settings=Settings(temperature=temperature))
    chosen = choose(logits.clone(), asked(200), rules)
    assert chosen.token_M.max() < 8
    expected = logits.softmax(-1)[torch.arange(200), torch.from_numpy(chosen.token_M)]
    np.testing.assert_allclose(chosen.probability_M, expected, rtol=1e-6)


def slow_gumbel(key, position, step, seed, vocabulary):
    quarter = -(-vocabulary // 4)
    noise = []
    for token in range(vocabulary):
        counter = (token % quarter, position, key, step << 8 | STREAM_SAMPLER)
        word = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[token // quarter]
        noise.append(-np.log(-np.log((word + 0.5) / 2**32)))
    return noise


def test_noise_is_a_function_of_seed_prompt_step_position_and_token():
    seed = (7 << 32) + 1
    keys = torch.tensor(
        [[0, 3, 3], [9, 9, 2**32 - 1], [0, 0, 70_000], [seed & 0xFFFFFFFF] * 3, [seed >> 32] * 3]
    )
    expected = [
        slow_gumbel(*row, seed, 10) for row in [(9, 0, 0), (9, 3, 0), (2**32 - 1, 3, 70_000)]
    ]
    np.testing.assert_allclose(gumbel_noise(keys, 10), expected, rtol=1e-12)


def test_noise_at_some_tokens_is_the_noise_of_all():
    keys = torch.tensor([[0, 3, 3], [9, 9, 7], [0, 2, 70_000], [5, 5, 6], [0, 0, 9]])
    tokens = torch.tensor([[4, 0, 9], [9, 8, 1], [2, 2, 5]])
    everywhere = gumbel_noise(keys, 10)
    assert gumbel_noise_at(keys, tokens, 10).tolist() == everywhere.gather(1, tokens).tolist()


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 8.0])
@pytest.mark.parametrize("few", [1, 3, 256])
def test_noise_where_a_token_can_win_draws_what_noise_for_all_does(temperature, few, monkeypatch):
    monkeypatch.setattr(module, "FEW", few)
    draws = torch.Generator().manual_seed(few)
    rows, vocabulary = 64, 1000
    keys = torch.cat((torch.arange(rows)[None], torch.full((4, rows), few)))
    for scale in (1.0, 8.0, 30.0):
        logits = scale * torch.randn(rows, vocabulary, generator=draws)
        logits[3] = 0.0
        logits[5, 7:] = -torch.inf
        scores = logits.double().add(gumbel_noise(keys, vocabulary), alpha=temperature)
        assert torch.equal(module.draw_from_all(logits, keys, temperature), scores.argmax(-1))
        monkeypatch.setattr(module, "SPARSE", 1.0)  # the sparse way, however many can win
        assert torch.equal(module.draw_from_all(logits, keys, temperature), scores.argmax(-1))
        monkeypatch.setattr(module, "SPARSE", 0.0)
        assert torch.equal(module.draw_from_all(logits, keys, temperature), scores.argmax(-1))


def test_the_largest_noise_is_below_the_bound_by_which_tokens_are_left_out():
    largest = module.gumbel(torch.tensor([2**32 - 1]))
    assert 22.8 < largest.item() < module.MOST_NOISE


def test_equal_scores_go_to_the_leftmost_token(monkeypatch):
    monkeypatch.setattr(module, "gumbel_noise_at", lambda _, tokens, __: 0.0 * tokens.double())
    logits = torch.zeros(2, 600)
    logits[0, [400, 90]] = logits[1, [599, 300]] = 50.0
    assert module.draw_from_all(logits, torch.zeros(5, 2).long(), 0.1).tolist() == [90, 300]


@pytest.mark.parametrize("sizes", [(1, 3), (3, 7), (256,)])
def test_nucleus_is_the_smallest_set_that_reaches_top_p(sizes, monkeypatch):
    monkeypatch.setattr(module, "NUCLEUS_SIZES", sizes)
    logits = random_logits(50, scale=1.0)
    for top_p in (0.05, 0.5, 0.95, 0.999999):
        tokens, outside = module.nucleus(logits, Settings(top_p=top_p))
        for row in range(50):
            p = logits[row].softmax(-1).tolist()
            ranked = sorted(range(VOCABULARY), key=lambda token: -p[token])
            size = next(n for n in range(1, 99) if sum(p[t] for t in ranked[:n]) >= top_p - 1e-7)
            assert set(tokens[row][~outside[row]].tolist()) == set(ranked[:size])


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
    assert chosen.token_M.tolist() == power_form.argmax(-1).tolist()


def test_samples_follow_the_tempered_softmax():
    rows, temperature = 20_000, 0.8
    logits = random_logits(1).expand(rows, -1).clone()
    chosen = choose(logits.clone(), asked(rows), rules_of(temperature=temperature))
    scaled = logits[0].double() / temperature
    scaled[MASK] = -torch.inf
    expected = scaled.softmax(-1).numpy() * rows
    counts = np.bincount(chosen.token_M, minlength=VOCABULARY)
    likely = expected > 5
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi_square < 30  # 9 degrees of freedom at most: exceeded once in 2,000 seeds


def test_temperature_does_not_touch_the_confidence():
    logits = random_logits(30)
    chosen = choose(logits.clone(), asked(30), rules_of(temperature=3.0))
    expected = logits.softmax(-1)[torch.arange(30), torch.from_numpy(chosen.token_M)]
    np.testing.assert_allclose(chosen.confidence_M, expected, rtol=1e-6)


def test_top_p_draws_only_from_the_nucleus_and_all_of_it():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1, 1e-9, 1e-9, 1e-9]]).log()
    rules = Rules(ids=ModelIds(6), settings=Settings(temperature=1.0, top_p=0.65))
    chosen = choose(logits.expand(2000, -1).clone(), asked(2000), rules)
    assert set(chosen.token_M.tolist()) == {0, 1}
    chosen = choose(
        logits.expand(2000, -1).clone(),
        asked(2000),
        replace(rules, settings=Settings(temperature=1.0, top_p=0.75)),
    )
    assert set(chosen.token_M.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logit_guard_never_chooses_a_guarded_id(temperature):
    logits = random_logits(500)
    logits[:, EOS] += 3
    logits[:, EOT] += 3
    rules = rules_of(eos_guard="logits", temperature=temperature)
    assert not {EOS, EOT} & set(choose(logits, asked(500), rules).token_M.tolist())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("remasking", ["low-confidence", "margin", "entropy"])
def test_confidence_guard_keeps_the_choice_and_puts_guarded_ids_last(temperature, remasking):
    logits = random_logits(500)
    logits[:, EOS] += 3
    settings = {"temperature": temperature, "remasking": remasking}
    free = choose(logits.clone(), asked(500), rules_of(**settings))
    guarded = choose(logits.clone(), asked(500), rules_of(**settings, eos_guard="confidence"))
    assert guarded.token_M.tolist() == free.token_M.tolist()
    is_guarded = np.isin(free.token_M, (EOS, EOT))
    assert is_guarded.any()
    assert np.isneginf(guarded.confidence_M[is_guarded]).all()
    assert np.isfinite(guarded.confidence_M[~is_guarded]).all()


def test_ends_are_not_chosen_where_a_text_may_not_end():
    logits = random_logits(100)
    logits[:, EOS] += 50
    assert EOS not in choose(logits, asked(100, may_end=False), RULES).token_M


def test_margin_and_entropy_are_those_of_the_softmax():
    logits = random_logits(40)
    p = logits.double().softmax(-1).numpy()
    entropy = choose(logits.clone(), asked(40), rules_of(remasking="entropy"))
    np.testing.assert_allclose(entropy.confidence_M, (p * np.log(p)).sum(-1), rtol=1e-5)
    margin = choose(logits.clone(), asked(40), rules_of(remasking="margin"))
    best = np.sort(np.delete(p, MASK, axis=1), axis=-1)
    np.testing.assert_allclose(margin.confidence_M, best[:, -1] - best[:, -2], rtol=1e-4)


def test_random_confidence_is_uniform_and_keyed():
    rules = rules_of(remasking="random")
    drawn = choose(random_logits(4000), asked(4000), rules).confidence_M
    assert 0.48 < drawn.mean() < 0.52
    again = choose(random_logits(4000, seed=1), asked(4000), rules).confidence_M
    assert (drawn == again).all()
    later = choose(random_logits(4000), asked(4000, step=1), rules).confidence_M
    assert (drawn != later).mean() > 0.99


def test_chunks_of_rows_change_nothing(monkeypatch):
    rules = rules_of(temperature=1.0, top_p=0.9, entropy_bound=0.1)
    whole = choose(random_logits(64), asked(64), rules)
    monkeypatch.setitem(module.CHUNK_ELEMENTS, "cpu", 3 * VOCABULARY)
    pieces = choose(random_logits(64), asked(64), rules)
    assert pieces.token_M.tolist() == whole.token_M.tolist()
    assert pieces.entropy_M.tolist() == whole.entropy_M.tolist()


def test_guidance_moves_away_from_the_unconditional_logits():
    conditional, unconditional = random_logits(3), random_logits(3, seed=1)
    torch.testing.assert_close(guide(conditional, unconditional, 0.0), conditional)
    torch.testing.assert_close(
        guide(conditional, unconditional, 1.5), 2.5 * conditional - 1.5 * unconditional
    )


def test_logits_that_are_not_numbers_are_an_error():
    with pytest.raises(DataError, match="not numbers"):
        choose(torch.full((2, VOCABULARY), torch.nan), asked(2), RULES)


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
