"""Many prompts on their way through one model: ragged, packed, each leaving when it has ended.

The model is a callable, `logits(ids_T, segment_ends, rows_M) -> logits_MV`, and is asked for the
rows of open positions only. A prompt's tokens do not depend on its company: segments do not see
each other, noise is keyed by the prompt's own ids and seed, and rules belong to the prompt.
Shapes: T packed ids, M open positions of all prompts, B those of one prompt, V vocabulary.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from illada_core.errors import DataError
from illada_core.inference.candidates import Candidates, OpenRows, choose, guide, seed_words
from illada_core.inference.canvas import Canvas, Task
from illada_core.inference.commits import picks, thinking_boost
from illada_core.inference.rules import FindStop, ModelIds, Rules
from illada_core.inference.settings import DEFAULTS, Settings

# The returned tensor may be overwritten.
Logits = Callable[[Tensor, Sequence[int], Tensor], Tensor]


@dataclass(frozen=True)
class Commit:
    """What one step wrote for one prompt; positions count from the beginning of its canvas.

    `filled` is what stands in each gap after it, the mask id where a position is open.
    """

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
        ids: ModelIds,
        device: torch.device | str = "cpu",
        batch_tokens: int = 8192,
    ) -> None:
        self.logits, self.ids = logits, ids
        self.device = torch.device(device)
        self.batch_tokens = batch_tokens
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
        self.live[self.added] = Canvas(task, rules)
        self.added += 1
        return self.added - 1

    def cancel(self, index: int) -> None:
        """Let go of a task between two steps; it is an error if it is not in work."""
        del self.live[index]

    @property
    def has_room(self) -> bool:
        """Tell whether another prompt may come in."""
        return sum(map(packed_length, self.live.values())) < self.batch_tokens

    def step(self) -> list[Commit | Completion]:
        """Call the model once, commit what the rules allow, and return what happened."""
        chosen = self.fitting()
        events: list[Commit | Completion] = []
        if chosen:
            candidates = self.ask(chosen)
            events += [commit(index, canvas, candidates[index]) for index, canvas in chosen.items()]
        for index in [index for index, canvas in self.live.items() if canvas.is_finished]:
            events.append(complete(index, self.live.pop(index)))
        return events

    def fitting(self) -> dict[int, Canvas]:
        """Return the oldest unfinished canvases that fit the budget together, at least one."""
        chosen: dict[int, Canvas] = {}
        total = 0
        for index, canvas in self.live.items():
            total += packed_length(canvas)
            if chosen and total > self.batch_tokens:
                break
            if not canvas.is_finished:
                chosen[index] = canvas
        return chosen

    @torch.inference_mode()
    def ask(self, chosen: dict[int, Canvas]) -> dict[int, Candidates]:
        """Return candidates for the open positions of each canvas, from one call of the model."""
        groups = alike(chosen)
        canvases = [canvas for group in groups for canvas in group.values()]
        guided = [canvas for canvas in canvases if canvas.rules.settings.cfg]
        logits_MV = self.read(
            [canvas.ids for canvas in canvases] + [canvas.unguided_ids() for canvas in guided],
            [canvas.open_B for canvas in (*canvases, *guided)],
        )
        candidates: dict[int, Candidates] = {}
        row, blind_row = 0, sum(len(canvas.open_B) for canvas in canvases)
        for group in groups:
            rules = next(iter(group.values())).rules
            rows = sum(len(canvas.open_B) for canvas in group.values())
            group_MV = logits_MV[row : row + rows]
            row += rows
            if cfg := rules.settings.cfg:
                group_MV = guide(group_MV, logits_MV[blind_row : blind_row + rows], cfg)
                blind_row += rows
            candidates.update(deal(choose(group_MV, open_rows(group.values()), rules), group))
        return candidates

    def read(self, ids: list[np.ndarray], rows: list[np.ndarray]) -> Tensor:
        """Call the model on segments, and return the logits of some rows of each, in order."""
        ends = np.cumsum([len(segment) for segment in ids])
        starts = ends - [len(segment) for segment in ids]
        rows_M = np.concatenate([start + own for start, own in zip(starts, rows, strict=True)])
        self.forwards += 1
        return self.logits(
            torch.from_numpy(np.concatenate(ids)).to(self.device),
            tuple(ends.tolist()),
            torch.from_numpy(rows_M).to(self.device),
        )


def packed_length(canvas: Canvas) -> int:
    """Return how many packed ids a canvas takes: twice its length under guidance."""
    return len(canvas.ids) * (2 if canvas.rules.settings.cfg else 1)


def alike(canvases: dict[int, Canvas]) -> list[dict[int, Canvas]]:
    """Group canvases whose tokens are chosen by the same settings."""
    groups: dict[Settings, dict[int, Canvas]] = {}
    for index, canvas in canvases.items():
        groups.setdefault(canvas.rules.choice, {})[index] = canvas
    return list(groups.values())


def open_rows(canvases: Collection[Canvas]) -> OpenRows:
    """Describe the open positions of some canvases, row by row."""
    counts = [len(canvas.open_B) for canvas in canvases]
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    boosts = zip(firsts, map(boost, canvases), strict=True)
    seeds = [seed_words(canvas.rules.settings.seed) for canvas in canvases]
    return OpenRows(
        seed_M2=np.repeat(np.array(seeds), counts, axis=0),
        key_M=np.repeat([canvas.task.noise_key for canvas in canvases], counts),
        step_M=np.repeat([canvas.step for canvas in canvases], counts),
        position_M=np.concatenate([canvas.open_B for canvas in canvases]),
        may_end_M=np.concatenate([canvas.may_end_B() for canvas in canvases]),
        boosts=tuple((row, *found) for row, found in boosts if found),
    )


def deal(candidates: Candidates, canvases: dict[int, Canvas]) -> Iterator[tuple[int, Candidates]]:
    """Yield the candidates of each canvas, which lie one canvas after the other."""
    start = 0
    for index, canvas in canvases.items():
        stop = start + len(canvas.open_B)
        yield index, candidates.part(start, stop)
        start = stop


def boost(canvas: Canvas) -> tuple[int, float] | None:
    """Return the end-of-thinking boost (token, addition) for the first open position."""
    if canvas.rules.settings.end_thinking_boost <= 0 or not canvas.task.is_continuation:
        return None
    return thinking_boost(canvas.filled()[0], canvas.task.gaps[0].length, canvas.rules)


def commit(index: int, canvas: Canvas, candidates: Candidates) -> Commit:
    """Write the picked candidates on a canvas."""
    picked = picks(candidates, canvas.quotas[0], canvas.rules.settings)
    position_B, token_B = canvas.open_B[picked], candidates.token_M[picked]
    step = canvas.step
    block_done = canvas.commit(picked, token_B)
    return Commit(
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
