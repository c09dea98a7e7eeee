"""Many prompts on their way through one model: ragged, packed, each leaving when it has ended.

The model is a callable, `logits(ids_T, segment_ends, rows_M) -> logits_MV`, and is asked for the
rows of open positions only; what it is given lies on the host, but for the ids of later steps. A
prompt's tokens do not depend on its company: segments do not see each other, noise is keyed by the
prompt's own ids and seed, and rules belong to the prompt.
Shapes: T packed ids, M open positions of all prompts, B those of one prompt, V vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from illada_core.errors import DataError
from illada_core.inference.cache import Cache, Pass, View, every_row
from illada_core.inference.canvas import Canvas, Task
from illada_core.inference.decisions import Call, Decision, decide, foreseen
from illada_core.inference.rules import FindStop, ModelIds, Rules
from illada_core.inference.settings import DEFAULTS, Settings

# The returned tensor may be overwritten.
Logits = Callable[[Tensor, Sequence[int], Tensor], Tensor]


@dataclass(frozen=True)
class Commit:
    """What one step wrote for one prompt; positions count from the beginning of its canvas.

    `filled` is what stands in each gap after it, the mask id where a position is open; `exact`
    tells whether no kept keys and values would be others now.
    """

    index: int
    step: int
    position_B: np.ndarray
    token_B: np.ndarray
    confidence_B: np.ndarray
    block_done: bool
    filled: tuple[np.ndarray, ...]
    exact: bool = True


@dataclass(frozen=True)
class Completion:
    """A finished prompt: what stands in each of its gaps, cut before what ended it.

    `cuts` hold, for each gap, the ids that a stop string took away; it may begin inside the first.
    `forwards` counts the calls of the model that this prompt took part in, `refreshes` those that
    computed all its positions, `rows_computed` the positions that all of them did; `exact` tells
    whether no token was chosen over keys and values that would be others now.
    """

    index: int
    fills: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[int, ...], ...]
    finish_reason: str
    forwards: int
    refreshes: int
    rows_computed: int
    exact: bool

    @property
    def output_ids(self) -> tuple[int, ...]:
        """The new ids of all gaps, in order."""
        return tuple(token for fill in self.fills for token in fill)


class Sampler:
    """Prompts in work; `add` brings one in, `step` calls the model for those that fit.

    It does so once, or up to `ahead` times before it looks at what the first of them has written;
    what is written does not depend on that.

    At most `batch_tokens` rows are computed in a step (one prompt always may), the oldest first;
    the others wait with their state. Prompts whose settings keep keys and values need a `cache`;
    they and the others go through the model in calls of their own.
    """

    def __init__(
        self,
        logits: Logits,
        ids: ModelIds,
        batch_tokens: int = 8192,
        cache: Cache | None = None,
        ahead: int = 1,
    ) -> None:
        self.logits, self.ids, self.cache = logits, ids, cache
        self.batch_tokens, self.ahead = batch_tokens, ahead
        self.live: dict[int, Canvas] = {}
        self.added = 0
        self.forwards = 0

    def add(
        self,
        task: Task,
        settings: Settings = DEFAULTS,
        find_stop: FindStop | None = None,
        end_thinking_ids: tuple[int, ...] = (),
    ) -> int:
        """Take a task in and return its index, which counts from 0 in order of arrival.

        Raises DataError for a task that holds the mask id, UsageError for settings that contradict
        the model's ids.
        """
        if any(self.ids.mask_id in run for run in task.runs):
            raise DataError(f"the prompt holds the mask id {self.ids.mask_id}")
        rules = Rules(
            ids=self.ids,
            settings=settings,
            find_stop=find_stop,
            end_thinking_ids=end_thinking_ids,
        )
        assert self.cache or not rules.settings.keeps, "a sampler without a cache"
        self.live[self.added] = Canvas(task, rules)
        self.added += 1
        return self.added - 1

    def cancel(self, index: int) -> None:
        """Let go of a task between two steps; it is an error if it is not in work."""
        self.live.pop(index)
        self.release(index)

    def release(self, index: int) -> None:
        """Forget the keys and values of a prompt that leaves."""
        if self.cache:
            self.cache.release(index)

    @property
    def has_room(self) -> bool:
        """Tell whether another prompt may come in."""
        rows = kept = 0
        for canvas in self.live.values():
            if canvas.rules.settings.keeps:
                rows += len(canvas.block_B) * canvas.views
                kept += canvas.capacity * canvas.views
            else:
                rows += len(canvas.ids) * canvas.views
        return rows < self.batch_tokens and (not self.cache or kept < self.cache.most_tokens)

    def step(self) -> list[Commit | Completion]:
        """Compute what fits, commit what the rules allow, and return what happened, in order."""
        events: list[Commit | Completion] = []
        passes = self.fitting()
        for keeps in (False, True):
            together = [own for own in passes if own.canvas.rules.settings.keeps == keeps]
            if together:
                events += self.ask(together, self.cache if keeps else None)
        for index in [index for index, canvas in self.live.items() if canvas.is_finished]:
            events.append(complete(index, self.live.pop(index)))
            self.release(index)
        return events

    def fitting(self) -> list[Pass]:
        """Return passes over the oldest unfinished canvases that fit together, at least one."""
        chosen: list[Pass] = []
        total = 0
        for index, canvas in self.live.items():
            if canvas.is_finished:
                continue
            row_R = self.rows(index, canvas)
            if row_R is None:
                break
            is_causal = bool(self.cache and self.cache.is_causal)
            own = Pass(index, canvas, row_R, len(canvas.ids), is_causal)
            total += own.rows
            if chosen and total > self.batch_tokens:
                break
            chosen.append(own)
        return chosen

    def rows(self, index: int, canvas: Canvas) -> np.ndarray | None:
        """Return the positions to compute of a canvas; None if its keys and values must wait."""
        if not self.cache or not canvas.rules.settings.keeps:
            return every_row(canvas)
        return self.cache.rows(index, canvas) if self.cache.admit(index, canvas) else None

    def ask(self, passes: list[Pass], cache: Cache | None) -> list[Commit]:
        """Write on each canvas what the next steps decide; one transfer from the device for all."""
        groups = alike(passes)
        ordered = [own for group in groups for own in group]
        views = [View(own, own.canvas.shown_ids()) for own in ordered]
        views += [
            View(own, own.canvas.unguided_ids(), is_blind=True)
            for own in ordered
            if own.canvas.rules.settings.cfg
        ]
        steps = min(self.ahead, *(self.foreseen(own, cache) for own in ordered))
        self.forwards += steps
        call = self.call(views) if cache is None else cache.call(views)
        together = [[own.canvas for own in group] for group in groups]
        decided = decide(call, together, steps)
        return [
            each
            for own, decisions in zip(ordered, decided, strict=True)
            for each in self.follow(own, decisions)
        ]

    def foreseen(self, own: Pass, cache: Cache | None) -> int:
        """Return how many steps of a canvas are the same pass over other ids, by all we know."""
        steps = foreseen(own.canvas)
        return min(steps, cache.passes_alike(own)) if cache else steps

    def follow(self, own: Pass, decisions: list[Decision]) -> Iterator[Commit]:
        """Write step by step what was decided, as long as the next is the same pass."""
        canvas, geometry, open_B = own.canvas, own.canvas.geometry, own.canvas.open_B
        for step, decision in enumerate(decisions):
            if step and not self.goes_on(own, geometry):
                return
            if self.cache and canvas.rules.settings.keeps:
                self.cache.note(own)
            yield commit(own, open_B, decision)

    def goes_on(self, own: Pass, geometry: int) -> bool:
        """Tell whether the next pass over a canvas computes the same rows in the same places."""
        if own.canvas.is_finished or own.canvas.geometry != geometry:
            return False
        row_R = self.rows(own.index, own.canvas)
        return row_R is not None and np.array_equal(row_R, own.row_R)

    def call(self, views: list[View]) -> Call:
        """Return the call for the open positions of each view, in order: views are segments."""
        ends = np.cumsum([len(view.ids) for view in views])
        starts = (0, *ends[:-1].tolist())
        rows = [start + view.open_B for start, view in zip(starts, views, strict=True)]
        rows_M = torch.from_numpy(np.concatenate(rows))
        ids_T = torch.from_numpy(np.concatenate([view.ids for view in views]))
        ends_D = tuple(ends.tolist())
        return Call(lambda ids_T: self.logits(ids_T, ends_D, rows_M), ids_T, rows_M)


def alike(passes: list[Pass]) -> list[list[Pass]]:
    """Group canvases whose tokens are chosen by the same settings."""
    groups: dict[Settings, list[Pass]] = {}
    for own in passes:
        groups.setdefault(own.canvas.rules.choice, []).append(own)
    return list(groups.values())


def commit(done: Pass, open_B: np.ndarray, decision: Decision) -> Commit:
    """Write on a canvas what a step decided about some of its positions."""
    canvas = done.canvas
    canvas.rows_computed += done.rows
    canvas.refreshes += done.is_whole
    canvas.exact &= done.is_exact
    order = decision.order
    position_B, token_B = open_B[order], decision.token_B[order]
    step = canvas.step
    block_done = canvas.commit(position_B, token_B)
    return Commit(
        index=done.index,
        step=step,
        position_B=position_B,
        token_B=token_B,
        confidence_B=decision.confidence_B[order],
        block_done=block_done,
        filled=canvas.filled(),
        exact=done.is_exact,
    )


def complete(index: int, canvas: Canvas) -> Completion:
    """Return what a finished canvas holds."""
    reasons = [fill.finish_reason for fill in canvas.fills if fill.finish_reason]
    return Completion(
        index=index,
        fills=tuple(tuple(ids.tolist()) for ids in canvas.filled()),
        cuts=tuple(fill.cut_ids for fill in canvas.fills),
        finish_reason=reasons[-1] if reasons else "length",
        forwards=canvas.step,
        refreshes=canvas.refreshes,
        rows_computed=canvas.rows_computed,
        exact=canvas.exact,
    )


def generate(
    sampler: Sampler, tasks: Iterable[Task], settings: Settings = DEFAULTS
) -> list[Completion]:
    """Run tasks to their ends and return their completions in order."""
    waiting = iter(tasks)
    done: list[Completion] = []
    task = next(waiting, None)
    while task is not None or sampler.live:
        while task is not None and sampler.has_room:
            sampler.add(task, settings)
            task = next(waiting, None)
        done += [event for event in sampler.step() if isinstance(event, Completion)]
    return sorted(done, key=lambda completion: completion.index)
