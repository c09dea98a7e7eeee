"""The one training loop: pre-training, fine-tuning and continued training differ by recipe only.

What is learnt from comes in as a source of micro-batches, what is minimised as an objective. The
loop yields events and never prints. What belongs to a step is done in this order: metrics,
validation, samples, checkpoint. So a resumed run repeats nothing and skips nothing. Every rank
goes through all of it, and asks the model as often as the others; rank 0 alone writes.

The host does not wait for a device: the numbers of a step are read when the next has been asked
for, unless they are there already or something must know them.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from illada_core.errors import DivergedError, IlladaError
from illada_core.files import write_file
from illada_core.model.finding import newest_checkpoint
from illada_core.model.transfer import Fetched
from illada_core.training import run_folder
from illada_core.training.checkpoint import Progress
from illada_core.training.curves import CurvesClock, can_draw, draw_curves
from illada_core.training.events import (
    DecayBegan,
    Event,
    Finished,
    Noticed,
    Sampled,
    Saved,
    Started,
    StepDone,
    StepDropped,
    Validated,
)
from illada_core.training.metrics import Speed, device_name
from illada_core.training.optim import set_learning_rate
from illada_core.training.parallel import LONG_WAIT, max_over_ranks, sum_over_ranks
from illada_core.training.recipe.plan import step_flops
from illada_core.training.recipe.schedule import (
    begin_decay,
    end_tokens,
    learning_rate,
    observe_loss,
)
from illada_core.training.session import Session
from illada_core.training.source import Source
from illada_core.training.step import Objective, StepResult, train_step
from illada_core.training.validation import validate, validation_rule


def train(
    session: Session, source: Source, objective: Objective, stop_requested: Callable[[], int]
) -> Iterator[Event]:
    """Train until the run ends or a stop is requested; either way the last step is saved.

    `stop_requested` returns the number of the signal that asks for it, else 0. All ranks stop when
    one is asked to, and all learn by which signal: `session.stopped_by`.

    Raises DivergedError after `run.max_bad_steps` non-finite steps in a row.
    """
    recipe, ranks = session.setup.recipe, session.ranks
    yield describe_start(session)
    yield from (Noticed(remark) for remark in session.remarks)
    yield from of_trackers(session)
    if recipe.log.curves and ranks.is_main and not can_draw():
        yield Noticed("curves.png is not drawn: matplotlib is missing (extra: plot)")
    speed, curves = Speed(), CurvesClock()
    first = session.progress.step  # it may take long: layers are compiled
    made: Made | None = None  # whose numbers are not read yet
    with closing(source(session.progress.step)) as steps:
        while not is_complete(session):
            micro_batches = next(steps)
            step_tokens, count, stops, requests, writing = sum_over_ranks(
                ranks,
                sum(noisy.tokens for noisy in micro_batches),
                sum(noisy.loss_count for noisy in micro_batches),
                stop_requested() > 0,
                ranks.is_main and decay_is_requested(session.run, session.progress),
                session.is_writing,
            )
            if made is not None and (stops or decay_begins(session, bool(requests))):
                yield from settle(session, made, speed)
                made = None
            if not writing:
                yield from attempt(session, session.finish_save)
            if stops:
                session.stopped_by = int(max_over_ranks(ranks, stop_requested()))
                break
            yield from decide_decay(session, bool(requests))
            set_next_rate(session, int(step_tokens))
            fetched = train_step(
                session.denoiser,
                session.optimizer,
                micro_batches,
                objective,
                int(count),
                recipe.optimizer.clip_norm,
                ranks,
            )
            if session.progress.step == first:
                session.limit_waiting(timedelta(seconds=recipe.parallel.timeout_s))
            if made is not None:
                yield from settle(session, made, speed)
            made = advance(session, int(step_tokens), fetched)
            if not fetched.is_here and not must_know(session):
                continue
            yield from settle(session, made, speed)
            made = None
            if is_due(session, recipe.validation.every_steps):
                yield from validate_holdout(session)
            if is_due(session, recipe.validation.sample_every):
                yield from answer_prompts(session)
            if save_is_due(session) and not session.progress.bad_steps:
                yield from attempt(session, session.finish_save)
                yield from attempt(session, session.begin_save)
            if recipe.log.curves and ranks.is_main:
                curves.draw_if_due(session.run)
            speed.resume()
    session.limit_waiting(LONG_WAIT)
    yield from conclude(session)


@dataclass(frozen=True)
class Made:
    """The last step that was asked for; its numbers may still be on their way."""

    step_tokens: int
    fetched: Fetched


def attempt(
    session: Session, act: Callable[[], int | None], may_fail: bool = True, what: str = "written"
) -> Iterator[Event]:
    """Do a part of saving, which returns the step of a checkpoint if that is complete now.

    What fails may leave the run without a checkpoint, or one without a copy, if its recipe says so.
    """
    try:
        step = act()
    except (IlladaError, OSError) as error:
        if not may_fail or session.setup.recipe.checkpoint.on_error == "stop":
            raise
        if session.ranks.is_main:
            yield Noticed(f"a checkpoint was not {what}, and training goes on: {error}")
        return
    if step is not None:
        yield Saved(step, run_folder.checkpoint_path(session.run, step))
        yield from attempt(session, partial(session.begin_copy, step), what="copied")


def is_complete(session: Session) -> bool:
    return session.progress.tokens >= end_tokens(session.setup.schedule, session.progress.schedule)


def is_due(session: Session, every_steps: int) -> bool:
    """Tell whether something done every so many steps is due; `conclude` cares for the last."""
    on_time = every_steps > 0 and session.progress.step % every_steps == 0
    return on_time and not is_complete(session)


def save_is_due(session: Session) -> bool:
    keys = session.setup.recipe.checkpoint
    return is_due(session, keys.every_steps) or is_due(session, keys.ephemeral_every_steps)


def must_know(session: Session) -> bool:
    """Tell whether something waits for the numbers of the last step, as the next must not begin."""
    keys = session.setup.recipe.validation
    return (
        is_complete(session)
        or save_is_due(session)
        or is_due(session, keys.every_steps)
        or is_due(session, keys.sample_every)
        or session.setup.schedule.plateau
        or session.progress.bad_steps > 0
    )


def describe_start(session: Session) -> Started:
    progress = session.progress
    return Started(
        step=progress.step,
        tokens=progress.tokens,
        end_tokens=end_tokens(session.setup.schedule, progress.schedule),
        device=device_name(session.ranks.device),
        attention=session.attention,
        attention_reason=session.attention_reason,
        resumed_from=session.saved_at,
    )


def decay_is_requested(run: Path, progress: Progress) -> bool:
    """Tell whether the file `decay` asks for the decay: at once, or at the token count in it.

    The count is written when the request is met, so that a resumed run meets it there again. One
    from before the schedule began anew was met then.
    """
    try:
        text = (run / run_folder.DECAY).read_text().strip()
    except FileNotFoundError:
        return False
    start = progress.schedule.start_tokens
    return not text.isdecimal() or start <= int(text) <= progress.tokens


def decay_begins(session: Session, requested: bool) -> bool:
    """Tell whether the decay begins with the coming step."""
    progress, schedule = session.progress, session.setup.schedule
    return begin_decay(schedule, progress.schedule, progress.tokens, requested) != progress.schedule


def decide_decay(session: Session, requested: bool) -> Iterator[Event]:
    """Let the decay begin with the coming step if it is time, the loss is flat, or it is asked."""
    progress, schedule = session.progress, session.setup.schedule
    if requested and not schedule.decay_tokens and session.ranks.is_main:
        yield Noticed("a decay was requested, but schedule.decay is none")
    state = begin_decay(schedule, progress.schedule, progress.tokens, requested)
    if state == progress.schedule:
        return
    session.progress = replace(progress, schedule=state)
    if state.decay_reason == "request" and session.ranks.is_main:
        write_file(session.run / run_folder.DECAY, f"{progress.tokens}\n".encode())
    end = end_tokens(schedule, state)
    session.write("decay", progress.step + 1, reason=state.decay_reason, end_tokens=end)
    yield DecayBegan(progress.step + 1, progress.tokens, end, state.decay_reason)


def set_next_rate(session: Session, step_tokens: int) -> None:
    """Set the learning rate of the step that takes `step_tokens` tokens from here."""
    progress = session.progress
    tokens = progress.tokens + step_tokens
    rate = learning_rate(session.setup.schedule, progress.schedule, tokens)
    set_learning_rate(session.optimizer, rate)


def advance(session: Session, step_tokens: int, fetched: Fetched) -> Made:
    """Move the progress on by a step that was asked for."""
    progress = session.progress
    session.progress = replace(
        progress, step=progress.step + 1, tokens=progress.tokens + step_tokens
    )
    return Made(step_tokens, fetched)


def settle(session: Session, made: Made, speed: Speed) -> Iterator[Event]:
    """Read the numbers of the last step, and take note of it: it was made, or dropped.

    Raises DivergedError where it was one too many to be dropped.
    """
    result = StepResult.of(made.fetched)
    progress, state = session.progress, session.progress.schedule
    if result.is_finite:
        tokens = progress.tokens
        state = observe_loss(session.setup.schedule, state, tokens, made.step_tokens, result.loss)
    session.progress = replace(
        progress,
        updates=progress.updates + result.is_finite,
        bad_steps=0 if result.is_finite else progress.bad_steps + 1,
        dropped_steps=progress.dropped_steps + (not result.is_finite),
        schedule=state,
    )
    yield record_step(session, result, made.step_tokens, speed)
    yield from of_trackers(session)
    if session.progress.bad_steps >= session.setup.recipe.run.max_bad_steps:
        yield from attempt(session, session.finish_save)
        redraw_curves(session)
        raise divergence(session)


def record_step(
    session: Session, result: StepResult, step_tokens: int, speed: Speed
) -> StepDone | StepDropped:
    """Write the last step to the metrics and return its event."""
    progress, schedule, seconds = session.progress, session.setup.schedule, speed.lap()
    if not result.is_finite:
        session.write("dropped", progress.step, loss=result.loss, grad_norm=result.grad_norm)
        return StepDropped(
            progress.step, progress.tokens, step_tokens, result.loss, progress.bad_steps
        )
    flops = step_flops(
        session.setup.config,
        step_tokens,
        result.token_pairs,
        result.head_rows,
        is_frozen=session.base is not None,
    )
    tokens_per_s, flops_per_s = speed.add(seconds, step_tokens, flops)
    peak = session.peak_flops
    done = StepDone(
        step=progress.step,
        tokens=progress.tokens,
        step_tokens=step_tokens,
        end_tokens=end_tokens(schedule, progress.schedule),
        loss=result.loss,
        lr=learning_rate(schedule, progress.schedule, progress.tokens),
        grad_norm=result.grad_norm,
        tokens_per_s=tokens_per_s,
        mfu=flops_per_s / (peak * session.ranks.world) if peak else None,
    )
    session.write(
        "step",
        done.step,
        loss=done.loss,
        lr=done.lr,
        grad_norm=done.grad_norm,
        seconds=round(seconds, 4),
        tokens_per_s=round(tokens_per_s, 1),
        mfu=done.mfu and round(done.mfu, 4),
    )
    return done


def validate_holdout(session: Session) -> Iterator[Event]:
    """Measure the bound on the held-out rows, if there are any."""
    setup, progress, ranks = session.setup, session.progress, session.ranks
    if setup.holdout is None:
        return
    rule = validation_rule(session.corruption, setup.holdout.has_turns)
    rows = setup.recipe.validation.rows or setup.holdout.rows
    share = replace(session.share, rows_per_step=rows, origin=0)
    found = validate(session.denoiser, setup.holdout, rule, share, ranks)
    bytes_per_token = setup.holdout_bytes_per_token
    bits = found.bits_per_byte(bytes_per_token) if bytes_per_token else None
    session.progress = replace(progress, validated_step=progress.step)
    session.write(
        "validation",
        progress.step,
        mask=rule.mask,
        loss=found.loss,
        perplexity=found.perplexity,
        bits_per_byte=bits,
        loss_by_ratio=found.loss_by_ratio,
        held_out_tokens=found.tokens,
    )
    yield Validated(progress.step, progress.tokens, found.loss, found.perplexity, bits)


def answer_prompts(session: Session) -> Iterator[Event]:
    """Answer the held-out prompts, if there are any."""
    step = session.progress.step
    session.progress = replace(session.progress, sampled_step=step)
    if session.samples is not None:
        ended = session.samples.answer(session.denoiser, session.corruption.mask_id, step)
        prompts = session.setup.prompts
        yield Sampled(step, len(prompts), ended, is_plain=any(each.original for each in prompts))


def conclude(session: Session) -> Iterator[Event]:
    """Save the last step; if the run has come to its end, validate before and export after."""
    complete, step = is_complete(session), session.progress.step
    if complete and session.progress.validated_step != step:
        yield from validate_holdout(session)
    if complete and session.progress.sampled_step != step:
        yield from answer_prompts(session)
    yield from attempt(session, session.finish_save)
    if step and session.saved_at != run_folder.checkpoint_path(session.run, step):
        for act in (session.begin_save, session.finish_save):
            yield from attempt(session, act, may_fail=False)
    if complete:
        yield Finished(step, session.progress.tokens, session.export())
    redraw_curves(session)
    if session.metrics is not None:
        session.metrics.trackers.close()
    yield from of_trackers(session)


def of_trackers(session: Session) -> Iterator[Event]:
    """Say which trackers have failed; the run goes on without them."""
    if session.metrics is not None:
        yield from (Noticed(sentence) for sentence in session.metrics.trackers.told())


def redraw_curves(session: Session) -> None:
    """Bring curves.png up to date, if there is to be one."""
    if session.setup.recipe.log.curves and session.ranks.is_main and can_draw():
        draw_curves(session.run)


def divergence(session: Session) -> DivergedError:
    """Say that the run is lost, and from where it can be saved."""
    newest = newest_checkpoint(session.run)
    hint = "lower optimizer.peak_lr, or give it a longer schedule.warmup_tokens"
    return DivergedError(
        f"the loss or the gradient norm was not finite in {session.progress.bad_steps} steps in a "
        f"row, up to step {session.progress.step}",
        f"{hint}; the last good checkpoint is {newest}" if newest else hint,
    )
