"""The one training loop: pre-training, fine-tuning and continued training differ by recipe only.

It yields events and never prints. What belongs to a step is done in this order: metrics,
validation, samples, checkpoint. So a resumed run repeats nothing and skips nothing.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from illada_core.data.batches import Batch, read_steps
from illada_core.diffusion.objective import loss_count
from illada_core.errors import DivergedError
from illada_core.files import write_file
from illada_core.model.finding import newest_checkpoint
from illada_core.training import run_folder
from illada_core.training.curves import can_draw, draw_curves
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
from illada_core.training.parallel import max_over_ranks, sum_over_ranks
from illada_core.training.recipe.plan import step_flops
from illada_core.training.recipe.schedule import (
    begin_decay,
    end_tokens,
    learning_rate,
    observe_loss,
)
from illada_core.training.session import Session
from illada_core.training.step import StepResult, train_step
from illada_core.training.validation import validate, validation_objective

DRAW_EVERY_S = 60.0
MOST_DRAWING = 0.02  # of the time


def train(session: Session, stop_requested: Callable[[], int]) -> Iterator[Event]:
    """Train until the run ends or a stop is requested; either way the last step is saved.

    `stop_requested` returns the number of the signal that asks for it, else 0. All ranks stop when
    one is asked to, and all learn by which signal: `session.stopped_by`.

    Raises DivergedError after `run.max_bad_steps` non-finite steps in a row.
    """
    recipe, ranks = session.task.recipe, session.ranks
    yield started(session)
    yield from (Noticed(remark) for remark in session.remarks)
    if recipe.log.curves and ranks.is_main and not can_draw():
        yield Noticed("curves.png is not drawn: matplotlib is missing (extra: plot)")
    speed, curves, began = Speed(), CurvesClock(), time.perf_counter()
    with closing(micro_batches(session)) as steps:
        while not is_complete(session):
            batches = next(steps)
            step_tokens, count, stops, requests = sum_over_ranks(
                ranks,
                sum(len(batch.ids_T) for batch in batches),
                sum(loss_count(batch, session.objective) for batch in batches),
                stop_requested() > 0,
                ranks.is_main and decay_is_requested(session.run, session.progress.tokens),
            )
            if stops:
                session.stopped_by = int(max_over_ranks(ranks, stop_requested()))
                break
            yield from decide_decay(session, requested=bool(requests))
            result = one_step(session, batches, int(step_tokens), int(count))
            yield told(session, result, int(step_tokens), time.perf_counter() - began, speed)
            if session.progress.bad_steps >= recipe.run.max_bad_steps:
                redraw_curves(session)
                raise diverged(session)
            if is_due(session, recipe.validation.every_steps):
                yield from validated(session)
            if is_due(session, recipe.validation.sample_every):
                yield from sampled(session)
            if is_due(session, recipe.checkpoint.every_steps) and not session.progress.bad_steps:
                yield Saved(session.progress.step, session.save())
            if recipe.log.curves and ranks.is_main:
                curves.draw_if_due(session.run)
            began = time.perf_counter()
    yield from concluded(session)


def micro_batches(session: Session) -> Generator[list[Batch]]:
    """Yield this rank's micro-batches of each step from here on, read ahead."""
    task, keys = session.task, session.task.recipe
    return read_steps(
        task.train,
        keys.run.seed,
        first_step=session.progress.step,
        rows_per_step=keys.batch.rows,
        micro_rows=keys.batch.micro_rows,
        rank=session.ranks.rank,
        world=session.ranks.world,
    )


def is_complete(session: Session) -> bool:
    return session.progress.tokens >= end_tokens(session.task.schedule, session.progress.schedule)


def is_due(session: Session, every_steps: int) -> bool:
    """Tell whether something done every so many steps is due; `concluded` cares for the last."""
    on_time = every_steps > 0 and session.progress.step % every_steps == 0
    return on_time and not is_complete(session)


def started(session: Session) -> Started:
    progress = session.progress
    return Started(
        step=progress.step,
        tokens=progress.tokens,
        end_tokens=end_tokens(session.task.schedule, progress.schedule),
        device=device_name(session.ranks.device),
        attention=session.attention,
        attention_reason=session.attention_reason,
        resumed_from=session.saved_at,
    )


def decay_is_requested(run: Path, tokens: int) -> bool:
    """Tell whether the file `decay` asks for the decay: at once, or at the token count in it.

    The count is written when the request is met, so that a resumed run meets it there again.
    """
    try:
        text = (run / run_folder.DECAY).read_text().strip()
    except FileNotFoundError:
        return False
    return not text.isdecimal() or tokens >= int(text)


def decide_decay(session: Session, requested: bool) -> Iterator[Event]:
    """Let the decay begin with the coming step if it is time, the loss is flat, or it is asked."""
    progress, schedule = session.progress, session.task.schedule
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


def one_step(session: Session, batches: list[Batch], step_tokens: int, count: int) -> StepResult:
    """Make one optimizer step, its loss divided by `count`, and move the progress on."""
    recipe, schedule, progress = session.task.recipe, session.task.schedule, session.progress
    tokens = progress.tokens + step_tokens
    set_learning_rate(session.optimizer, learning_rate(schedule, progress.schedule, tokens))
    result = train_step(
        session.model,
        session.optimizer,
        batches,
        session.objective,
        recipe.batch.rows,
        count,
        recipe.optimizer.clip_norm,
        session.ranks,
    )
    state = progress.schedule
    if result.is_finite:
        state = observe_loss(schedule, state, tokens, step_tokens, result.loss)
    session.progress = replace(
        progress,
        step=progress.step + 1,
        tokens=tokens,
        updates=progress.updates + result.is_finite,
        bad_steps=0 if result.is_finite else progress.bad_steps + 1,
        dropped_steps=progress.dropped_steps + (not result.is_finite),
        schedule=state,
    )
    return result


def told(
    session: Session, result: StepResult, step_tokens: int, seconds: float, speed: Speed
) -> StepDone | StepDropped:
    """Write a step to the metrics and return its event."""
    progress, schedule = session.progress, session.task.schedule
    if not result.is_finite:
        session.write("dropped", progress.step, loss=result.loss, grad_norm=result.grad_norm)
        return StepDropped(
            progress.step, progress.tokens, step_tokens, result.loss, progress.bad_steps
        )
    flops = step_flops(
        session.task.config,
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


def validated(session: Session) -> Iterator[Event]:
    """Measure the bound on the held-out rows, if there are any."""
    task, progress = session.task, session.progress
    if task.holdout is None:
        return
    objective = validation_objective(session.objective, task.holdout.has_turns)
    found = validate(
        session.model,
        task.holdout,
        task.recipe.validation.rows or task.holdout.rows,
        objective,
        task.recipe.batch.micro_rows,
        session.ranks,
    )
    bytes_per_token = task.holdout_bytes_per_token
    bits = found.bits_per_byte(bytes_per_token) if bytes_per_token else None
    session.progress = replace(progress, validated_step=progress.step)
    session.write(
        "validation",
        progress.step,
        mask=objective.mask,
        loss=found.loss,
        perplexity=found.perplexity,
        bits_per_byte=bits,
        loss_by_ratio=found.loss_by_ratio,
        held_out_tokens=found.tokens,
    )
    yield Validated(progress.step, progress.tokens, found.loss, found.perplexity, bits)


def sampled(session: Session) -> Iterator[Event]:
    """Answer the held-out prompts, if there are any; rank 0 does, and the others wait for it."""
    task, step = session.task, session.progress.step
    session.progress = replace(session.progress, sampled_step=step)
    if session.samples is not None:
        ended = session.samples.answer(session.model, session.objective.mask_id, step)
        yield Sampled(step, len(task.prompts), ended)


def concluded(session: Session) -> Iterator[Event]:
    """Save the last step; if the run has come to its end, validate before and export after."""
    complete, step = is_complete(session), session.progress.step
    if complete and session.progress.validated_step != step:
        yield from validated(session)
    if complete and session.progress.sampled_step != step:
        yield from sampled(session)
    if step and session.saved_at != run_folder.checkpoint_path(session.run, step):
        yield Saved(step, session.save())
    if complete:
        yield Finished(step, session.progress.tokens, session.export())
    redraw_curves(session)


def redraw_curves(session: Session) -> None:
    """Bring curves.png up to date, if there is to be one."""
    if session.task.recipe.log.curves and session.ranks.is_main and can_draw():
        draw_curves(session.run)


def diverged(session: Session) -> DivergedError:
    """Say that the run is lost, and from where it can be saved."""
    newest = newest_checkpoint(session.run)
    hint = "lower optimizer.peak_lr, or give it a longer schedule.warmup_tokens"
    return DivergedError(
        f"the loss or the gradient norm was not finite in {session.progress.bad_steps} steps in a "
        f"row, up to step {session.progress.step}",
        f"{hint}; the last good checkpoint is {newest}" if newest else hint,
    )


class CurvesClock:
    """Draw curves.png now and then, the more seldom the longer it takes."""

    def __init__(self) -> None:
        self.next_s = time.monotonic() + DRAW_EVERY_S

    def draw_if_due(self, run: Path) -> None:
        began = time.monotonic()
        if began >= self.next_s and can_draw():
            draw_curves(run)
            took = time.monotonic() - began
            self.next_s = began + max(DRAW_EVERY_S, took / MOST_DRAWING)
