"""The learning rate is a pure function of tokens and a small state."""

from dataclasses import replace
from math import cos, pi

import pytest

from illada_core.errors import UsageError
from illada_core.training.recipe.keys import ScheduleKeys
from illada_core.training.recipe.schedule import (
    ScheduleState,
    begin_decay,
    end_tokens,
    learning_rate,
    observe_loss,
    plan_schedule,
)

KEYS = ScheduleKeys(warmup_tokens=100, final_lr=0.1, decay="cosine", decay_share=0.5)


def curve(schedule, requests=(), losses=None, step_tokens=10):
    """Return {tokens: rate} of a run in steps, and the state it ends with."""
    state, tokens, rates = ScheduleState(), 0, {}
    while tokens < end_tokens(schedule, state):
        state = begin_decay(schedule, state, tokens, tokens in requests)
        tokens += step_tokens
        rates[tokens] = learning_rate(schedule, state, tokens)
        loss = losses(tokens) if losses else 1.0
        state = observe_loss(schedule, state, tokens, step_tokens, loss)
    return rates, state


def test_warm_up_is_linear_then_constant_then_cosine_to_the_final_rate():
    rates, state = curve(plan_schedule(KEYS, 1.0, 1000))
    for tokens, rate in rates.items():
        if tokens <= 100:
            assert rate == pytest.approx(tokens / 100)
        elif tokens <= 500:
            assert rate == 1.0
        else:
            share = (tokens - 500) / 500
            assert rate == pytest.approx(0.1 + 0.9 * (1 + cos(pi * share)) / 2)
    assert rates[1000] == pytest.approx(0.1)
    assert state.decay_reason == "plan"


def test_linear_decay_is_a_straight_line():
    rates, _ = curve(plan_schedule(replace(KEYS, decay="linear"), 1.0, 1000))
    assert rates[750] == pytest.approx(0.55)
    assert rates[1000] == pytest.approx(0.1)


def test_decay_starts_at_a_given_token_count():
    keys = replace(KEYS, decay_share=0.0, decay_start_tokens=800)
    rates, _ = curve(plan_schedule(keys, 1.0, 1000))
    assert rates[800] == 1.0
    assert rates[810] < 1.0
    assert rates[1000] == pytest.approx(0.1)


def test_a_decay_that_would_begin_at_the_end_is_refused():
    keys = replace(KEYS, decay_share=0.0, decay_start_tokens=1000)
    with pytest.raises(UsageError, match="do not fit"):
        plan_schedule(keys, 1.0, 1000)


def test_without_decay_the_rate_stays():
    rates, _ = curve(plan_schedule(replace(KEYS, decay="none", decay_share=0.0), 1.0, 500))
    assert rates[500] == 1.0


def test_a_request_starts_the_decay_and_ends_the_run_with_it():
    rates, state = curve(plan_schedule(KEYS, 1.0, 1000), requests={50, 200})
    assert (state.decay_start_tokens, state.decay_reason) == (200, "request")
    assert max(rates) == 700
    assert rates[200] == 1.0
    assert rates[700] == pytest.approx(0.1)


def test_a_plateau_starts_the_decay_and_a_falling_loss_does_not():
    keys = replace(
        KEYS,
        decay_share=0.2,
        plateau=True,
        plateau_window_tokens=40,
        plateau_windows=2,
        plateau_drop=0.01,
    )
    schedule = plan_schedule(keys, 1.0, 1000)
    _, state = curve(schedule, losses=lambda tokens: 5.0 - tokens / 1000)
    assert (state.decay_start_tokens, state.decay_reason) == (800, "plan")
    _, state = curve(schedule, losses=lambda tokens: max(5.0 - tokens / 100, 2.0))
    assert state.decay_reason == "plateau"
    # Flat from 300 on: the window that ends at 340 is the last to bring a new least mean.
    assert state.decay_start_tokens == 420


def test_a_resumed_schedule_follows_the_same_curve():
    schedule = plan_schedule(KEYS, 1.0, 1000)
    whole, _ = curve(schedule, requests={300})
    state = begin_decay(schedule, ScheduleState(), 300, requested=True)
    stored = ScheduleState(**vars(state))
    assert all(
        learning_rate(schedule, stored, tokens) == rate
        for tokens, rate in whole.items()
        if tokens > 300
    )


def test_a_schedule_longer_than_the_run_is_refused():
    with pytest.raises(UsageError, match="do not fit"):
        plan_schedule(KEYS, 1.0, 150)


def test_annealing_must_end_within_the_run():
    plan_schedule(replace(KEYS, anneal_tokens=1000), 1.0, 1000)
    with pytest.raises(UsageError, match="would not be full after 1_000 tokens"):
        plan_schedule(replace(KEYS, anneal_tokens=1001), 1.0, 1000)
