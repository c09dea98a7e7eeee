"""What a client waits for: written by the engine, read by whoever answers the client.

A job is a mailbox, not a queue: a reader finds the latest state, so a slow one costs the engine
nothing and keeps nothing but its own text in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from illada_core.errors import IlladaError
from illada_core.evaluation.items import ChoiceItem
from illada_core.evaluation.scoring import Rule, Scores
from illada_core.inference.sampler import Commit
from illada_core.inference.tasks import TextTask
from illada_core.inference.text import settled_ids, settled_text
from illada_core.inference.text_sampler import Generation
from illada_core.text.tokenizer import Tokenizer


class Job:
    """A request under way; `error` says why it failed, `deadline` is in monotonic seconds.

    It is made in the event loop that reads it. `drop` tells the engine that nobody reads it any
    more.
    """

    def __init__(self, timeout_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.deadline = time.monotonic() + timeout_s
        self.error: Exception | None = None
        self.is_done = False
        self.is_dropped = False
        self.is_timed_out = False

    def tell(self) -> None:
        """Wake the reader; the engine's thread calls it."""
        with suppress(RuntimeError):  # the loop is gone, and nobody reads
            self.loop.call_soon_threadsafe(self.changed.set)

    def finish(self, error: Exception | None = None) -> None:
        """End the job, well or with an error."""
        self.error = self.error or error
        self.is_done = True
        self.tell()

    async def wait(self, seconds: float) -> bool:
        """Wait until something changed, or so long; return whether it did."""
        try:
            await asyncio.wait_for(self.changed.wait(), seconds)
        except TimeoutError:
            return False
        self.changed.clear()
        return True


@dataclass(eq=False)
class Choice:
    """One text of a job: what stands of it, and at last what it became."""

    task: TextTask
    sample: int
    filled: Sequence[np.ndarray] = ()
    steps: int = 0
    commits: list[Commit] = field(default_factory=list)
    generation: Generation | None = None

    @property
    def prompt_tokens(self) -> int:
        """How many ids are given."""
        return sum(map(len, self.task.task.runs))

    def settled(self, tokenizer: Tokenizer, mask_id: int) -> str:
        """Return the text that no later step changes."""
        if self.generation is not None:
            return self.generation.text or ""
        if len(self.filled) != 1 or self.task.around:
            return ""
        ids = settled_ids(self.filled[0].tolist(), mask_id)
        return settled_text(ids, tokenizer, self.task.settings.stop)


class TextJob(Job):
    """Texts to be written. With `keeps_commits` each step of them is there to be read.

    The reader is woken at every step of one that `is_streamed`, else at the end.
    """

    def __init__(
        self,
        tasks: Sequence[tuple[TextTask, int]],
        timeout_s: float,
        is_streamed: bool = False,
        keeps_commits: bool = False,
    ) -> None:
        super().__init__(timeout_s)
        self.choices = [Choice(task, sample) for task, sample in tasks]
        self.unstarted = deque(self.choices)
        self.is_streamed, self.keeps_commits = is_streamed, keeps_commits

    def take(self, choice: Choice, event: Commit | Generation) -> None:
        """Note what a step brought to one of the texts."""
        if isinstance(event, Generation):
            choice.generation = event
            self.is_done = all(each.generation is not None for each in self.choices)
            return
        choice.filled, choice.steps = event.filled, event.step + 1
        if self.keeps_commits:
            choice.commits.append(event)

    @property
    def prompt_tokens(self) -> int:
        """How many ids are given, those of a repeated prompt once."""
        return sum(each.prompt_tokens for each in self.choices if each.sample == 0)

    @property
    def new_tokens(self) -> int:
        """How many ids were written, in all texts."""
        return sum(each.generation.new_tokens for each in self.choices if each.generation)

    @property
    def forwards(self) -> int:
        """How many calls of the model the texts took part in."""
        return sum(each.generation.forwards for each in self.choices if each.generation)


class ScoreJob(Job):
    """An item to be scored by a rule, by a model that `guidance` steers."""

    def __init__(self, item: ChoiceItem, rule: Rule, guidance: float, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.item, self.rule, self.guidance = item, rule, guidance
        self.batches: Iterator[Any] = iter(())
        self.scores: Scores | None = None


class OverdueError(IlladaError):
    """The time of a request was over before there was anything to answer."""


class EngineError(IlladaError):
    """The engine failed, and the server ends."""
