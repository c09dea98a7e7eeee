"""A chat under way: the model, how it answers, the conversation, and the last answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from illada_cli.chat.conversation import Conversation
from illada_cli.chat.view import View
from illada_cli.ui import Talk
from illada_core.errors import DataError
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Prompting, Request
from illada_core.inference.sampler import Commit, Logits
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import TRUNCATE_HINT, TextTask, prepare
from illada_core.inference.text_sampler import (
    INTERRUPTED,
    Generation,
    TextSampler,
    complete_settings,
)

FULL_HINT = "/reset begins anew; illada chat --truncate left forgets the beginning"


@dataclass(frozen=True)
class Answer:
    """A finished or interrupted answer, and every step that wrote it."""

    generation: Generation
    seconds: float
    prompt_tokens: int
    steps: tuple[Commit, ...]

    @property
    def text(self) -> str:
        """What was said."""
        return self.generation.text or ""

    @property
    def is_interrupted(self) -> bool:
        """Whether the user stopped it."""
        return self.generation.finish_reason == INTERRUPTED

    def sentence(self) -> str:
        """Say what it took."""
        new, forwards = self.generation.new_tokens, self.generation.forwards
        return (
            f"{new:,} new tokens in {forwards:,} forwards "
            f"({new / max(1, forwards):.2f} tokens per forward), {self.seconds:.2f} s, "
            f"{new / max(self.seconds, 1e-9):.1f} tokens/s, "
            f"ended by {self.generation.finish_reason}"
        )


class Chat:
    """What the commands of a chat may look at and change."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        logits: Logits,
        device: str,
        settings: Settings,
        prompting: Prompting,
        talk: Talk,
    ) -> None:
        self.checkpoint, self.logits, self.device = checkpoint, logits, device
        self.prompting, self.talk = prompting, talk
        self.conversation = Conversation()
        self.last: Answer | None = None
        self.is_over = False
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Answer by other settings. Raises UsageError where they contradict the checkpoint."""
        self.settings, notices = complete_settings(settings, self.checkpoint)
        for notice in notices:
            self.talk.warn(notice)

    def respond(self, view: View, is_stopped: Callable[[], bool]) -> Answer:
        """Answer the last turn, and add what is answered to the conversation.

        An interrupted answer keeps what had settled; if that is nothing, the turn is taken back,
        as it is where the conversation does not fit the context, which raises DataError.
        """
        try:
            answer = self.write(view, is_stopped)
        except DataError:
            self.conversation.turns.pop()
            raise
        if answer.text:
            self.conversation.add("assistant", answer.text)
        else:
            self.conversation.turns.pop()
        self.last = answer
        return answer

    def write(self, view: View, is_stopped: Callable[[], bool]) -> Answer:
        """Return an answer to the conversation as it is; each step of it is shown."""
        task = self.task()
        if task.cut:
            self.talk.warn("the conversation is cut on the left to fit the context")
        sampler = TextSampler(self.checkpoint, self.logits, self.device)
        index = sampler.add(task)
        steps: list[Commit] = []
        generation: Generation | None = None
        started = time.perf_counter()
        while generation is None and not is_stopped():
            for _, event in sampler.step():
                if isinstance(event, Generation):
                    generation = event
                else:
                    steps.append(event)
                    view.show(event.filled[0].tolist(), event.block_done)
        generation = generation or sampler.cancel(index)
        seconds = time.perf_counter() - started
        view.finish(generation)
        return Answer(generation, seconds, len(task.task.runs[0]), tuple(steps))

    def task(self) -> TextTask:
        """Return the conversation as a task. Raises DataError where it does not fit."""
        request = Request("messages", self.conversation.messages(), tools=self.conversation.tools)
        try:
            return prepare(request, self.checkpoint, self.settings, self.prompting)
        except DataError as error:
            hint = FULL_HINT if error.hint == TRUNCATE_HINT else error.hint
            raise DataError(error.sentence, hint) from error
