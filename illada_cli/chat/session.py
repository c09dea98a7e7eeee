"""A chat under way: the model, how it answers, the conversation, and the last answer."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from illada_cli.chat.conversation import Conversation
from illada_cli.chat.view import View
from illada_cli.generate import sampler as generation
from illada_cli.generate.answers import UNFINISHED, completed_text, stop_finder
from illada_cli.generate.requests import Prepared, Request, Room, prepare
from illada_cli.ui import Talk
from illada_core.errors import DataError, StoppedBySignal
from illada_core.inference.checkpoint import TRUNCATE_HINT, Checkpoint

if TYPE_CHECKING:
    from illada_core.inference.rules import Rules
    from illada_core.inference.sampler import Completion, Logits, Progress

FULL_HINT = "/reset begins anew; illada chat --truncate left forgets the beginning"


@dataclass(frozen=True)
class Answer:
    """A finished or interrupted answer, and every step that wrote it."""

    text: str
    ids: list[int]
    finish_reason: str
    forwards: int
    seconds: float
    prompt_tokens: int
    steps: tuple[Progress, ...]

    def fields(self) -> dict[str, Any]:
        """Say more about the answer, as generate does."""
        return {
            "output_ids": self.ids,
            "finish_reason": self.finish_reason,
            "new_tokens": len(self.ids),
            "forwards": self.forwards,
        }

    def sentence(self) -> str:
        """Say what it took."""
        new = len(self.ids)
        return (
            f"{new:,} new tokens in {self.forwards:,} forwards "
            f"({new / max(1, self.forwards):.2f} tokens per forward), {self.seconds:.2f} s, "
            f"{new / max(self.seconds, 1e-9):.1f} tokens/s, ended by {self.finish_reason}"
        )


@dataclass
class Session:
    """What the commands of a chat may look at and change."""

    checkpoint: Checkpoint
    logits: Logits
    device: str
    settings: dict[str, Any]
    talk: Talk
    stop_ids: tuple[int, ...] = ()
    truncate: str | None = None
    conversation: Conversation = field(default_factory=Conversation)
    last: Answer | None = None
    is_over: bool = False

    def rules(self, settings: dict[str, Any]) -> Rules:
        """Return the sampler's rules. Raises UsageError where the settings contradict."""
        return generation.rules_for(settings, self.checkpoint, self.stop_ids, self.talk)

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
        from illada_core.inference.sampler import Completion, Sampler

        prepared = self.prepared()
        if prepared.cut:
            self.talk.warn("the conversation is cut on the left to fit the context")
        settings, stops = self.settings, self.settings["stop"]
        tokenizer = self.checkpoint.needed_tokenizer()
        rules = self.rules(settings)
        sampler = Sampler(self.logits, rules, self.device, 1, stop_finder(tokenizer, stops))
        sampler.add(prepared.task)
        steps: list[Progress] = []
        completion: Completion | None = None
        started = time.perf_counter()
        while completion is None and not is_stopped():
            for event in sampler.step():
                if isinstance(event, Completion):
                    completion = event
                else:
                    steps.append(event)
                    view.show(event.filled[0].tolist(), event.block_done)
        if completion is None:
            ids = settled_ids(steps, rules.mask_id)
            text, reason = tokenizer.decode(ids).rstrip(UNFINISHED), "interrupt"
        else:
            ids, reason = list(completion.output_ids), completion.finish_reason
            text = completed_text(completion, prepared, tokenizer, stops)
        answer = Answer(
            text=text,
            ids=ids,
            finish_reason=reason,
            forwards=len(steps),
            seconds=time.perf_counter() - started,
            prompt_tokens=len(prepared.task.runs[0]),
            steps=tuple(steps),
        )
        view.finish(text, answer.fields())
        return answer

    def prepared(self) -> Prepared:
        """Return the conversation as a task. Raises DataError where it does not fit."""
        room = Room(
            new_tokens=self.settings["max_new_tokens"],
            grows=self.settings["canvas"] == "variable",
            context=self.checkpoint.config.max_length,
            truncate=self.truncate,
            bos=None,
        )
        try:
            return prepare(Request("messages", self.conversation.messages()), self.checkpoint, room)
        except DataError as error:
            hint = FULL_HINT if error.hint == TRUNCATE_HINT else error.hint
            raise DataError(error.sentence, hint) from error


def settled_ids(steps: list[Progress], mask_id: int) -> list[int]:
    """Return what stood before the first mask after the last step."""
    ids: list[int] = steps[-1].filled[0].tolist() if steps else []
    return ids[: ids.index(mask_id)] if mask_id in ids else ids


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for a stop, which the yielded function tells; the second leaves."""
    pressed: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM end the chat at once, with its exit code, also while it waits for a line."""

    def end(number: int, frame: FrameType | None) -> None:
        raise StoppedBySignal("the chat was ended by a signal", number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
