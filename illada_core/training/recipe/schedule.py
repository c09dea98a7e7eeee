"""The learning rate: warm-up, constant, decay; and when the decay begins.

Everything is counted in tokens and is a pure function of a small state that the checkpoint keeps,
so a resumed run follows the same curve. The decay begins where it was planned, or sooner: when
the smoothed loss stops falling (the paper switched by eye, section 2.1), or on request. A run that
is made longer after that begins anew from the rate it has come to, or stays at it. No torch.
"""

from dataclasses import dataclass, replace
from math import cos, pi

from illada_core.errors import UsageError
from illada_core.training.recipe.keys import ScheduleKeys


@dataclass(frozen=True)
class Schedule:
    """A schedule with its token counts worked out; `decay_tokens` is 0 without a decay."""

    peak_lr: float
    final_lr: float
    warmup_tokens: int
    total_tokens: int
    shape: str
    decay_tokens: int
    plateau: bool = False
    plateau_window_tokens: int = 0
    plateau_windows: int = 0
    plateau_drop: float = 0.0

    @property
    def planned_start_tokens(self) -> int:
        """Tokens at which the decay begins at the latest, so that it ends with the run."""
        return self.total_tokens - self.decay_tokens


@dataclass(frozen=True)
class ScheduleState:
    """What the schedule remembers: whether the decay has begun, and how the loss has fallen.

    It began at `start_tokens` with `start_lr`, 0 but for a run that was made longer after its
    decay; if it `is_constant`, it stays there.
    """

    decay_start_tokens: int | None = None
    decay_tokens: int = 0
    decay_reason: str = ""
    window_tokens: int = 0
    window_nats: float = 0.0
    least_loss: float | None = None
    stale_windows: int = 0
    start_tokens: int = 0
    start_lr: float = 0.0
    is_constant: bool = False


def plan_schedule(
    keys: ScheduleKeys, peak_lr: float, total_tokens: int, start_tokens: int = 0
) -> Schedule:
    """Work out a schedule from `start_tokens` to `total_tokens`.

    Raises UsageError if its parts do not fit.
    """
    length = total_tokens - start_tokens
    if keys.decay == "none":
        decay_tokens = 0
    elif keys.decay_start_tokens:
        decay_tokens = total_tokens - keys.decay_start_tokens
    else:
        decay_tokens = max(1, round(keys.decay_share * length))
    least = 0 if keys.decay == "none" else 1
    if decay_tokens < least or keys.warmup_tokens > length - decay_tokens:
        raise UsageError(
            f"recipe: a warm-up of {keys.warmup_tokens:_} tokens and the decay do not fit into "
            f"{max(length, 0):_} tokens",
            "change schedule.warmup_tokens, the start of the decay, or the length of the run",
        )
    if keys.anneal_tokens > total_tokens:
        raise UsageError(
            f"recipe: attention would not be full after {total_tokens:_} tokens, as "
            f"schedule.anneal_tokens is {keys.anneal_tokens:_}",
            "lower it, or train for longer",
        )
    return Schedule(
        peak_lr=peak_lr,
        final_lr=keys.final_lr,
        warmup_tokens=keys.warmup_tokens,
        total_tokens=total_tokens,
        shape=keys.decay,
        decay_tokens=decay_tokens,
        plateau=keys.plateau,
        plateau_window_tokens=keys.plateau_window_tokens,
        plateau_windows=keys.plateau_windows,
        plateau_drop=keys.plateau_drop,
    )


def plan_stretch(
    keys: ScheduleKeys, peak_lr: float, total_tokens: int, state: ScheduleState
) -> Schedule:
    """Work out the schedule of a run that was made longer after its decay. Raises UsageError."""
    if state.is_constant:
        keys = replace(keys, warmup_tokens=0, decay="none", plateau=False)
    return plan_schedule(keys, peak_lr, total_tokens, state.start_tokens)


def extend(
    schedule: Schedule, state: ScheduleState, tokens: int, is_constant: bool
) -> ScheduleState:
    """Return the state of a run that is made longer, from the rate it has come to."""
    rate = learning_rate(schedule, state, tokens)
    return ScheduleState(start_tokens=tokens, start_lr=rate, is_constant=is_constant)


def learning_rate(schedule: Schedule, state: ScheduleState, tokens: int) -> float:
    """Return the rate of the step that ends at `tokens` tokens."""
    if state.is_constant:
        return state.start_lr
    since = tokens - state.start_tokens
    if since < schedule.warmup_tokens:
        return state.start_lr + (schedule.peak_lr - state.start_lr) * since / schedule.warmup_tokens
    if state.decay_start_tokens is None:
        return schedule.peak_lr
    share = min(1.0, max(0, tokens - state.decay_start_tokens) / state.decay_tokens)
    left = (1 + cos(pi * share)) / 2 if schedule.shape == "cosine" else 1 - share
    return schedule.final_lr + (schedule.peak_lr - schedule.final_lr) * left


def end_tokens(schedule: Schedule, state: ScheduleState) -> int:
    """Return the token count at which the run ends: with its decay, if that has begun."""
    if state.decay_start_tokens is None:
        return schedule.total_tokens
    return state.decay_start_tokens + state.decay_tokens


def begin_decay(
    schedule: Schedule, state: ScheduleState, tokens: int, requested: bool
) -> ScheduleState:
    """Return the state before the step that starts at `tokens`; the decay may have begun in it."""
    if state.decay_start_tokens is not None or not schedule.decay_tokens:
        return state
    if tokens >= schedule.planned_start_tokens:
        return start_decay(state, schedule.planned_start_tokens, schedule.decay_tokens, "plan")
    if tokens - state.start_tokens < schedule.warmup_tokens:
        return state
    reason = "request" if requested else "plateau" if on_plateau(schedule, state) else ""
    return start_decay(state, tokens, schedule.decay_tokens, reason) if reason else state


def start_decay(state: ScheduleState, start_tokens: int, tokens: int, reason: str) -> ScheduleState:
    return replace(state, decay_start_tokens=start_tokens, decay_tokens=tokens, decay_reason=reason)


def on_plateau(schedule: Schedule, state: ScheduleState) -> bool:
    """Tell whether the smoothed loss has stopped falling."""
    return schedule.plateau and state.stale_windows >= schedule.plateau_windows


def observe_loss(
    schedule: Schedule, state: ScheduleState, tokens: int, step_tokens: int, loss: float
) -> ScheduleState:
    """Fold the loss of a step that ended at `tokens` into the window that is being averaged."""
    if not schedule.plateau or tokens - state.start_tokens <= schedule.warmup_tokens:
        return state
    state = replace(
        state,
        window_tokens=state.window_tokens + step_tokens,
        window_nats=state.window_nats + loss * step_tokens,
    )
    if state.window_tokens < schedule.plateau_window_tokens:
        return state
    mean = state.window_nats / state.window_tokens
    fell = state.least_loss is None or mean < state.least_loss - schedule.plateau_drop
    return replace(
        state,
        window_tokens=0,
        window_nats=0.0,
        least_loss=mean if fell else state.least_loss,
        stale_windows=0 if fell else state.stale_windows + 1,
    )
