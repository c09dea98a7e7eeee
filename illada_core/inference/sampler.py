"""Many prompts on their way through one model: ragged, packed, each leaving when it has ended.

The model is a callable, `logits(ids_T, segment_ends, rows_M) -> logits_MV`, and is asked for the
rows of open positions only. A prompt's tokens do not depend on its company: segments do not see
each other, and noise is keyed by the prompt's own ids. One small transfer to the host a step.
Shapes: T packed ids, M open positions of all prompts, B those of one prompt, V vocabulary.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from illada_core.errors import DataError
from illada_core.inference.candidates import Asked, Candidates, choose, guide
from illada_core.inference.canvas import Canvas, FindStop, Task
from illada_core.inference.commits import picks, thinking_boost
from illada_core.inference.rules import Rules

# The returned tensor may be overwritten.
Logits = Callable[[Tensor, Sequence[int], Tensor], Tensor]


@dataclass(frozen=True)
class Progress:
    """What one step wrote for one prompt; positions count from the beginning of its canvas."""

    index: int
    step: int
    position_B: np.ndarray
    token_B: np.ndarray
    confidence_B: np.ndarray
    block_done: bool
    filled: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Completion:
    """A finished prompt: what stands in each of its gaps, cut before what ended it.

    `cuts` hold, for each gap, the ids that a stop string took away; it may begin inside the first.
    `forwards` counts the calls of the model that this prompt took part in.
    """

    index: int
    fills: tuple[tuple[int, ...], ...]
    cuts: tuple[tuple[int, ...], ...]
    finish_reason: str
    forwards: int

    @property
    def output_ids(self) -> tuple[int, ...]:
        """The new ids of all gaps, in order."""
        return tuple(token for fill in self.fills for token in fill)


class Sampler:
    """Prompts in work; `add` brings one in, `step` is one call of the model for those that fit.

    At most `batch_tokens` packed ids go through the model at once (one prompt always may), the
    oldest first; the others wait with their state.
    """

    def __init__(
        self,
        logits: Logits,
        rules: Rules,
        device: torch.device | str = "cpu",
        batch_tokens: int = 8192,
        find_stop: FindStop | None = None,
    ) -> None:
        self.logits, self.rules = logits, rules
        self.device = torch.device(device)
        self.batch_tokens, self.find_stop = batch_tokens, find_stop
        self.live: dict[int, Canvas] = {}
        self.added = 0
        self.forwards = 0

    def add(self, task: Task) -> int:
        """Take a task in and return its index, which counts from 0 in order of arrival."""
        if any(self.rules.mask_id in run for run in task.runs):
            raise DataError(f"the prompt holds the mask id {self.rules.mask_id}")
        self.live[self.added] = Canvas(task, self.rules, self.find_stop)
        self.added += 1
        return self.added - 1

    @property
    def has_room(self) -> bool:
        """Tell whether another prompt may come in."""
        return sum(map(self.load, self.live.values())) < self.batch_tokens

    def load(self, canvas: Canvas) -> int:
        """Return how many packed ids a canvas takes: twice its length under guidance."""
        return len(canvas.ids) * (2 if self.rules.cfg else 1)

    def step(self) -> list[Progress | Completion]:
        """Call the model once, commit what the rules allow, and return what happened."""
        chosen = self.fitting()
        candidates = self.ask(list(chosen.values())) if chosen else None
        events: list[Progress | Completion] = []
        start = 0
        for index, canvas in chosen.items():
            assert candidates is not None
            stop = start + len(canvas.open_B)
            events.append(self.commit(index, canvas, candidates.part(start, stop)))
            start = stop
        for index in [index for index, canvas in self.live.items() if canvas.is_finished]:
            events.append(complete(index, self.live.pop(index)))
        return events

    def fitting(self) -> dict[int, Canvas]:
        """Return the oldest unfinished canvases that fit the budget together, at least one."""
        chosen: dict[int, Canvas] = {}
        total = 0
        for index, canvas in self.live.items():
            total += self.load(canvas)
            if chosen and total > self.batch_tokens:
                break
            if not canvas.is_finished:
                chosen[index] = canvas
        return chosen

    @torch.inference_mode()
    def ask(self, canvases: list[Canvas]) -> Candidates:
        """Return candidates for the open positions of some canvases, from one call of the model."""
        rows_M, ids, ends = [], [], []
        start = 0
        for canvas in canvases:
            rows_M.append(start + canvas.open_B)
            ids.append(canvas.ids)
            start += len(canvas.ids)
            ends.append(start)
        asked = self.asked(canvases)
        if self.rules.cfg:
            ids += [canvas.unguided_ids() for canvas in canvases]
            rows_M += [start + rows for rows in rows_M]
            ends += [start + end for end in ends]
        ids_T = torch.from_numpy(np.concatenate(ids)).to(self.device)
        rows = torch.from_numpy(np.concatenate(rows_M)).to(self.device)
        logits_MV = self.logits(ids_T, tuple(ends), rows)
        self.forwards += 1
        if self.rules.cfg:
            conditional_MV, unconditional_MV = logits_MV.chunk(2)
            logits_MV = guide(conditional_MV, unconditional_MV, self.rules.cfg)
        return choose(logits_MV, asked, self.rules)

    def asked(self, canvases: list[Canvas]) -> Asked:
        """Describe the open positions of some canvases, row by row."""
        counts = [len(canvas.open_B) for canvas in canvases]
        boosts = []
        row = 0
        for canvas, count in zip(canvases, counts, strict=True):
            boost = self.boost(canvas)
            if boost:
                boosts.append((row, *boost))
            row += count
        return Asked(
            key_M=np.repeat([canvas.task.noise_key for canvas in canvases], counts),
            step_M=np.repeat([canvas.step for canvas in canvases], counts),
            position_M=np.concatenate([canvas.open_B for canvas in canvases]),
            may_end_M=np.concatenate([canvas.may_end_B() for canvas in canvases]),
            boosts=tuple(boosts),
        )

    def boost(self, canvas: Canvas) -> tuple[int, float] | None:
        """Return the end-of-thinking boost (token, addition) for the first open position."""
        rules = self.rules
        if rules.thinking_boost <= 0 or not canvas.task.is_continuation:
            return None
        return thinking_boost(
            canvas.filled()[0],
            rules.mask_id,
            canvas.task.gaps[0].length,
            rules.thinking_end_ids,
            rules.thinking_boost,
            rules.thinking_power,
        )

    def commit(self, index: int, canvas: Canvas, candidates: Candidates) -> Progress:
        """Write the picked candidates on a canvas."""
        rules = self.rules
        picked = picks(candidates, canvas.quotas[0], rules.commit_by, rules.bound)
        position_B, token_B = canvas.open_B[picked], candidates.token_M[picked]
        step = canvas.step
        block_done = canvas.commit(picked, token_B)
        return Progress(
            index=index,
            step=step,
            position_B=position_B,
            token_B=token_B,
            confidence_B=candidates.confidence_M[picked],
            block_done=block_done,
            filled=canvas.filled(),
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
    )


def generate(sampler: Sampler, tasks: Iterable[Task]) -> list[Completion]:
    """Run tasks to their ends and return their completions in order."""
    waiting = iter(tasks)
    done: list[Completion] = []
    task = next(waiting, None)
    while task is not None or sampler.live:
        while task is not None and sampler.has_room:
            sampler.add(task)
            task = next(waiting, None)
        done += [event for event in sampler.step() if isinstance(event, Completion)]
    return sorted(done, key=lambda completion: completion.index)
