"""A chat under way: the model, how it answers, the conversation, and the last answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from illada_cli.chat.conversation import Conversation
from illada_cli.chat.view import View
from illada_cli.ui import Talk, os_error_sentence, plural
from illada_core.errors import DataError, UsageError
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
from illada_core.model.replay import Replay
from illada_core.model.transformer import Transformer
from illada_core.text.chat_template import Message

FULL_HINT = "/reset begins anew, /set truncate left forgets the beginning"


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
            f"{plural(new, 'new token')} in {plural(forwards, 'forward')} "
            f"({new / max(1, forwards):.2f} tokens per forward), {self.seconds:.2f} s, "
            f"{new / max(self.seconds, 1e-9):.1f} tokens/s, "
            f"ended by {self.generation.finish_reason}"
        )


class Chat:
    """What the commands of a chat may look at and change."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Transformer | Replay | Logits,
        device: str,
        settings: Settings,
        prompting: Prompting,
        talk: Talk,
    ) -> None:
        self.checkpoint, self.model, self.device = checkpoint, model, device
        self.prompting, self.talk = prompting, talk
        self.conversation = Conversation()
        self.autosave: Path | None = None
        self.last: Answer | None = None
        self.replaced: Message | None = None
        self.sample = 0
        self.is_over = False
        self.change(settings)

    def change(self, settings: Settings) -> None:
        """Answer by other settings. Raises UsageError where they contradict the checkpoint."""
        self.settings, notices = complete_settings(settings, self.checkpoint)
        for notice in notices:
            self.talk.warn(notice)

    def ask(self, text: str) -> None:
        """Take a turn of the user, who waits for an answer now."""
        self.conversation.add("user", text)
        self.replaced, self.sample = None, 0

    def take_back(self) -> None:
        """Take the last answer back, so that another is given. Raises UsageError without one."""
        turns = self.conversation.turns
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise UsageError("there is no answer yet")
        self.replaced = turns.pop()
        self.sample += 1

    @property
    def is_asked(self) -> bool:
        """Whether the last turn waits for an answer."""
        turns = self.conversation.turns
        return bool(turns) and turns[-1].role == "user"

    def respond(self, view: View, is_stopped: Callable[[], bool]) -> Answer:
        """Answer the last turn, and add what is answered to the conversation.

        An interrupted answer keeps what had settled; if that is nothing, what stood there before
        comes back, or the turn is taken back, as it is where the conversation does not fit the
        context, which raises DataError.
        """
        try:
            answer = self.write(view, is_stopped)
        except DataError:
            self.restore()
            raise
        if answer.text:
            self.conversation.add("assistant", answer.text)
        else:
            self.restore()
        self.last = answer
        self.keep()
        return answer

    def restore(self) -> None:
        """Put the answer back that was to be replaced, or take the turn back."""
        if self.replaced:
            self.conversation.turns.append(self.replaced)
        else:
            self.conversation.turns.pop()

    def keep(self) -> None:
        """Write the conversation where /load finds it after a crash, if it is to be kept."""
        if self.autosave is not None and self.conversation.turns:
            try:
                self.conversation.keep(self.autosave)
            except OSError as error:
                self.talk.warn(f"the conversation is not kept: {os_error_sentence(error)}")
            except DataError as error:
                self.talk.warn(f"the conversation is not kept: {error.sentence}")

    def write(self, view: View, is_stopped: Callable[[], bool]) -> Answer:
        """Return an answer to the conversation as it is; each step of it is shown."""
        task = self.task()
        if task.cut:
            self.talk.warn("the conversation is cut on the left to fit the context", again=True)
        if task.unknown:
            self.talk.say_once(self.checkpoint.require_tokenizer().tell_unknown(task.unknown))
        sampler = TextSampler(self.checkpoint, self.model, self.device)
        index = sampler.add(task, self.sample)
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
        request = Request("messages", self.conversation.dialogue)
        try:
            return prepare(request, self.checkpoint, self.settings, self.prompting)
        except DataError as error:
            hint = FULL_HINT if error.hint == TRUNCATE_HINT else error.hint
            raise DataError(error.sentence, hint) from error
