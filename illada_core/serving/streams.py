"""Server-sent events: settled text in chunks that are never taken back, or every step of a text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.sampler import Commit
from illada_core.inference.trace import commit_fields
from illada_core.serving.jobs import Choice, TextJob
from illada_core.serving.replies import Reply, finish_reason, refusal_of, usage

KEEP_ALIVE_S = 1.0
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"


def event(fields: dict[str, Any], name: str | None = None) -> bytes:
    """Return an object as an event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(fields, allow_nan=False)}\n\n".encode()


def comment(job: TextJob) -> bytes:
    """Return the comment that keeps a silent stream alive: how many steps were made."""
    return f": step {sum(each.steps for each in job.choices)}\n\n".encode()


async def text_events(
    job: TextJob, reply: Reply, checkpoint: Checkpoint, has_usage: bool
) -> AsyncIterator[bytes]:
    """Yield a job's texts as they settle, then why they ended, the usage if wanted, and the end."""
    tokenizer = checkpoint.require_tokenizer()
    shown = [""] * len(job.choices)
    if reply.is_chat:
        for index in range(len(job.choices)):
            yield event(reply.chunk(index, None))
    ended: set[int] = set()
    while len(ended) < len(job.choices):
        is_new = await job.wait(KEEP_ALIVE_S)
        for index, choice in enumerate(job.choices):
            if index in ended:
                continue
            reason = finish_reason(choice)
            text = choice.settled(tokenizer, checkpoint.mask_id)
            if len(text) > len(shown[index]) and text.startswith(shown[index]):
                yield event(reply.chunk(index, text[len(shown[index]) :]))
                shown[index] = text
            if reason is not None:
                ended.add(index)
                yield event(reply.chunk(index, "", reason))
        if job.error is not None:
            yield event(refusal_of(job.error).fields())
            return
        if not is_new:
            yield comment(job)
    if has_usage:
        yield event(reply.last_chunk(job))
    yield DONE


async def step_events(job: TextJob, reply: Reply, checkpoint: Checkpoint) -> AsyncIterator[bytes]:
    """Yield every step of a job's one text: `start`, a `step` each, `text` that settles, `end`."""
    choice, told, shown = job.choices[0], 0, ""
    tokenizer = checkpoint.require_tokenizer()
    yield event({**reply.head(), "prompt_tokens": job.prompt_tokens}, "start")
    while not (job.is_done and told == len(choice.commits)):
        is_new = await job.wait(KEEP_ALIVE_S)
        fresh = choice.commits[told:]
        told += len(fresh)
        for commit in fresh:
            yield event(step_fields(commit, choice, checkpoint), "step")
        text = choice.settled(tokenizer, checkpoint.mask_id)
        if len(text) > len(shown) and text.startswith(shown):
            yield event({"delta": text[len(shown) :]}, "text")
            shown = text
        if job.error is not None:
            yield event(refusal_of(job.error).fields(), "error")
            return
        if not is_new:
            yield comment(job)
    generation = choice.generation
    assert generation is not None
    yield event({**generation.fields(), "usage": usage(job)}, "end")


def step_fields(commit: Commit, choice: Choice, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return one step: what it wrote, as a trace has it, and which positions are still masked."""
    return {
        "step": commit.step,
        "block_done": commit.block_done,
        "commits": [*commit_fields(replace(commit, index=0), checkpoint.tokenizer)],
        "open": [*open_positions(commit, choice, checkpoint.mask_id)],
    }


def open_positions(commit: Commit, choice: Choice, mask_id: int) -> Iterator[int]:
    """Yield the positions of the masks on the canvas after a step."""
    start = 0
    for run, filled in zip(choice.task.task.runs, commit.filled, strict=False):
        start += len(run)
        yield from (start + np.flatnonzero(filled == mask_id)).tolist()
        start += len(filled)
