"""Replies in the shapes of OpenAI's API: objects, chunks, usage, errors. Plain data, no HTTP."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from illada_core.errors import CheckpointError, DataError, IlladaError, UsageError
from illada_core.inference.text_sampler import Generation
from illada_core.serving.jobs import Choice, EngineError, OverdueError, TextJob

# Ours to theirs; a text that was ended by the clock is cut short too.
REASONS = {"eos": "stop", "stop": "stop", "length": "length", "interrupt": "length"}
INVALID, SERVER = "invalid_request_error", "server_error"


class Refusal(IlladaError):
    """A request that is not served: an HTTP status, and the words of OpenAI's error object."""

    def __init__(
        self,
        status: int,
        sentence: str,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.kind, self.param = status, kind, param
        self.word, self.headers = code, headers or {}

    def fields(self) -> dict[str, Any]:
        """Return the error object."""
        error = {
            "message": self.sentence,
            "type": self.kind,
            "param": self.param,
            "code": self.word,
        }
        return {"error": error}


def refusal_of(error: Exception) -> Refusal:
    """Return an error as what a client is told. What is no error of ours stays a secret."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OverdueError):
        return Refusal(503, error.sentence, SERVER, "timeout")
    if isinstance(error, EngineError):
        return Refusal(500, error.sentence, SERVER)
    if isinstance(error, UsageError | DataError | CheckpointError):
        sentence = f"{error.sentence} ({error.hint})" if error.hint else error.sentence
        return Refusal(400, sentence, param=vars(error).get("param"))
    return Refusal(500, "the server met an error that is its own", SERVER)


@dataclass(frozen=True)
class Reply:
    """What the replies to one request have in common; the same id and time in every chunk."""

    kind: str
    prefix: str
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def is_chat(self) -> bool:
        """Whether it answers a conversation."""
        return self.kind == "chat.completion"

    def head(self, kind: str | None = None) -> dict[str, Any]:
        """Return the fields that every object has."""
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind or self.kind,
            "created": self.created,
            "model": self.model,
        }

    def whole(self, job: TextJob) -> dict[str, Any]:
        """Return the finished texts of a job."""
        told = [(each.generation, index) for index, each in enumerate(job.choices)]
        choices = [self.choice(index, done) for done, index in told if done is not None]
        extra = {"illada": {"timed_out": True}} if job.is_timed_out else {}
        return {**self.head(), "choices": choices, "usage": usage(job), **extra}

    def choice(self, index: int, generation: Generation) -> dict[str, Any]:
        """Return one finished text."""
        if self.kind == "illada.infill":
            return {"index": index, **generation.fields()}
        text = generation.text or ""
        said = (
            {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
        )
        reason = REASONS[generation.finish_reason]
        return {"index": index, **said, "finish_reason": reason, "logprobs": None}

    def chunk(self, index: int, text: str | None, reason: str | None = None) -> dict[str, Any]:
        """Return a piece of a text; None opens an answer, a reason ends it."""
        choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if not self.is_chat:
            choice["text"] = text or ""
        elif text is None:
            choice["delta"] = {"role": "assistant", "content": ""}
        else:
            choice["delta"] = {} if reason else {"content": text}
        kind = "chat.completion.chunk" if self.is_chat else self.kind
        return {**self.head(kind), "choices": [choice]}

    def last_chunk(self, job: TextJob) -> dict[str, Any]:
        """Return the chunk that tells the usage."""
        kind = "chat.completion.chunk" if self.is_chat else self.kind
        return {**self.head(kind), "choices": [], "usage": usage(job)}


def usage(job: TextJob) -> dict[str, Any]:
    """Return what a job took: end tokens and what was cut are not counted."""
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.new_tokens,
        "total_tokens": job.prompt_tokens + job.new_tokens,
        "illada": {"forwards": job.forwards},
    }


def finish_reason(choice: Choice) -> str | None:
    """Return why a text ended, None while it has not."""
    return REASONS[choice.generation.finish_reason] if choice.generation else None
