"""The sampler for requests: text in, text out, each with settings of its own.

Generation, chat, the Python API and whatever serves requests go through here.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from illada_core.errors import UsageError
from illada_core.inference.cache import Cache, cache_tokens_for
from illada_core.inference.checkpoint import Checkpoint, ahead_for, batch_tokens_for
from illada_core.inference.requests import Request
from illada_core.inference.rules import Rules
from illada_core.inference.sampler import Commit, Completion, Logits, Sampler
from illada_core.inference.settings import CACHE_SETTINGS, COMMIT_RULES, DEFAULTS, Settings
from illada_core.inference.tasks import TextTask
from illada_core.inference.text import (
    completed_text,
    first_stop,
    settled_ids,
    settled_text,
    stop_finder,
)
from illada_core.model.replay import Replay
from illada_core.model.transformer import Transformer
from illada_core.text.tokenizer import UNFINISHED

INTERRUPTED = "interrupt"
# What bears on blocks of more than one position, or on masks.
ORDERS = ("remasking", "confidence_from", "alg_temp", "schedule")
LEFT_TO_RIGHT_LACKS = ("canvas", "cfg", *ORDERS, *COMMIT_RULES, *CACHE_SETTINGS)


@dataclass(frozen=True)
class Generation:
    """What was written for a request.

    `text` is the new text, or for gaps the whole; None without a tokenizer. `output_ids` are cut
    before what ended them: `eos`, `stop` (a stop string or id), `length`, or `interrupt` where it
    was cancelled. `forwards` counts the calls of the model that this text took part in, `refreshes`
    those that computed all its positions, `rows_computed` what all of them did; `exact` tells
    whether nothing was chosen over keys and values that would be others now. `fills` are the ids
    of each gap where a request has gaps.
    """

    request: Request
    text: str | None
    output_ids: tuple[int, ...]
    finish_reason: str
    forwards: int
    refreshes: int
    rows_computed: int
    exact: bool
    fills: tuple[tuple[int, ...], ...] | None = None

    @property
    def new_tokens(self) -> int:
        """How many ids are new."""
        return len(self.output_ids)

    def fields(self) -> dict[str, Any]:
        """Return the JSON object of this generation, without what it is an answer to."""
        fields = {
            "text": self.text,
            "output_ids": self.output_ids,
            "finish_reason": self.finish_reason,
            "new_tokens": self.new_tokens,
            "forwards": self.forwards,
            "refreshes": self.refreshes,
            "rows_computed": self.rows_computed,
            "exact": self.exact,
        }
        return fields if self.fills is None else {**fields, "fills": self.fills}


class TextSampler:
    """Requests in work: `add` brings one in, `step` computes those that fit.

    `model` may be any callable like `Transformer.logits_at`, and computes on `device`; keys and
    values are kept of a Transformer only, replayed or not, of at most `cache_tokens` positions at
    once. A step may call it up to `ahead` times before it reads what was written: texts are the
    same, and what has ended meanwhile was computed for nothing.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Transformer | Replay | Logits,
        device: torch.device | str = "cpu",
        batch_tokens: int | None = None,
        cache_tokens: int | None = None,
        ahead: int | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        cache = None
        if isinstance(model, Transformer | Replay):
            most = cache_tokens or cache_tokens_for(model, device)
            cache = Cache(model, most, checkpoint.reading)
            model = model.logits_at
        budget = batch_tokens or batch_tokens_for(device)
        self.sampler = Sampler(model, checkpoint.ids, budget, cache, ahead or ahead_for(device))
        self.device = torch.device(device)
        self.tasks: dict[int, TextTask] = {}
        self.filled: dict[int, list[int]] = {}

    @property
    def live(self) -> int:
        """How many requests are in work."""
        return len(self.sampler.live)

    @property
    def forwards(self) -> int:
        """How many calls of the model there were."""
        return self.sampler.forwards

    @property
    def kept_bytes(self) -> int:
        """How much memory kept keys and values take."""
        return self.sampler.cache.memory.nbytes if self.sampler.cache else 0

    @property
    def has_room(self) -> bool:
        """Tell whether another request may come in."""
        return self.sampler.has_room

    def add(self, task: TextTask, sample: int = 0) -> int:
        """Take a request in; return its index, which counts from 0 in order of arrival.

        `sample` tells repeats of a request apart: each draws numbers of its own.
        """
        rules = rules_for(task.settings, self.checkpoint)
        index = self.sampler.add(
            replace(task.task, sample=sample),
            rules.settings,
            rules.find_stop,
            rules.end_thinking_ids,
        )
        self.tasks[index] = task
        return index

    def step(self) -> list[tuple[int, Commit | Generation]]:
        """Go a step on; return, by index, what each request got and what is finished, in order."""
        events: list[tuple[int, Commit | Generation]] = []
        for event in self.sampler.step():
            if isinstance(event, Commit):
                self.filled[event.index] = event.filled[0].tolist()
                events.append((event.index, event))
            else:
                events.append((event.index, self.finish(event)))
        return events

    def cancel(self, index: int) -> Generation:
        """Stop a request between two steps; return what had settled of it, before a stop string."""
        canvas = self.sampler.live[index]
        self.sampler.cancel(index)
        task, ids = self.tasks.pop(index), self.filled.pop(index, [])
        settled = tuple(settled_ids(ids, self.checkpoint.mask_id))
        text = None
        if self.checkpoint.tokenizer is not None:
            text = self.checkpoint.tokenizer.decode(settled).rstrip(UNFINISHED)
            text = text[: first_stop(text, task.settings.stop)]
        spent = (canvas.step, canvas.refreshes, canvas.rows_computed, canvas.exact)
        return Generation(task.request, text, settled, INTERRUPTED, *spent)

    def settled(self, index: int) -> str | None:
        """Return the text that has settled so far of a prompt's continuation.

        None for one that is not in work, a text with several gaps, or without a tokenizer.
        """
        task, tokenizer = self.tasks.get(index), self.checkpoint.tokenizer
        if task is None or tokenizer is None or task.around or len(task.task.gaps) > 1:
            return None
        ids = settled_ids(self.filled.get(index, ()), self.checkpoint.mask_id)
        return settled_text(ids, tokenizer, task.settings.stop)

    def finish(self, completion: Completion) -> Generation:
        """Return a completion as what was asked for."""
        task = self.tasks.pop(completion.index)
        self.filled.pop(completion.index, None)
        tokenizer, text = self.checkpoint.tokenizer, None
        if tokenizer is not None:
            text = completed_text(completion, task.around, tokenizer, task.settings.stop)
        return Generation(
            request=task.request,
            text=text,
            output_ids=completion.output_ids,
            finish_reason=completion.finish_reason,
            forwards=completion.forwards,
            refreshes=completion.refreshes,
            rows_computed=completion.rows_computed,
            exact=completion.exact,
            fills=completion.fills if task.request.has_gaps else None,
        )


def complete_settings(settings: Settings, checkpoint: Checkpoint) -> tuple[Settings, list[str]]:
    """Fill in what settings leave to a checkpoint; return them, and what a person should know.

    Raises UsageError where settings and checkpoint contradict.
    """
    notices = list(checkpoint.notices)
    if checkpoint.reading.attention == "causal":
        settings = left_to_right(settings)
    settings = replace(settings, block_length=settings.block_length or checkpoint.block_length)
    if settings.end_thinking_boost and checkpoint.tokenizer is None:
        notices.append("without a tokenizer the end of thinking has no ids: its boost is off")
        settings = replace(settings, end_thinking_boost=0.0)
    if checkpoint.reading.attention != "causal":
        notices += told_cache(settings)
    size = checkpoint.config.vocab_size
    if wrong := [number for number in settings.stop_ids if not 0 <= number < size]:
        raise UsageError(f"--stop-id {wrong[0]} is outside the model's {size:,} ids")
    rules_for(settings, checkpoint)
    return settings, notices


def without_masks(settings: Settings) -> Settings:
    """Return settings without what only a model that hides tokens can do."""
    defaults = {name: vars(DEFAULTS)[name] for name in LEFT_TO_RIGHT_LACKS}
    return replace(settings, **defaults, block_length=None, steps_per_block=None, cache="none")


def left_to_right(settings: Settings) -> Settings:
    """Return settings for a model whose attention is causal: blocks of one, kept and exact.

    Raises UsageError for what only a model that hides tokens can do.
    """
    for name in LEFT_TO_RIGHT_LACKS:
        if vars(settings)[name] != vars(DEFAULTS)[name]:
            raise UsageError(
                f"the model writes from left to right, so {name} does not go with it",
                "--attention full reads it as a model that fills masks",
            )
    return replace(settings, block_length=1, cache="block")


def told_cache(settings: Settings) -> list[str]:
    """Say which positions a step computes anew, if not all of them."""
    if not settings.keeps:
        without = [name for name in CACHE_SETTINGS if vars(settings)[name]]
        return [f"without cache = block there is no {name}" for name in without]
    near = f" and {settings.vicinity} positions on each side" if settings.vicinity else ""
    when = ["where a block begins"]
    if settings.refresh_every:
        when.append(f"every {settings.refresh_every} calls")
    if settings.refresh_after:
        when.append(f"after {settings.refresh_after} committed tokens")
    return [f"approximate: a step computes the block{near}, and all positions {', '.join(when)}"]


def rules_for(settings: Settings, checkpoint: Checkpoint) -> Rules:
    """Return settings in the ids of a checkpoint. Raises UsageError where they contradict."""
    stops, boost = settings.stop, settings.end_thinking_boost
    return Rules(
        ids=checkpoint.ids,
        settings=settings,
        find_stop=stop_finder(checkpoint.require_tokenizer(), stops) if stops else None,
        end_thinking_ids=end_thinking_ids(settings.end_thinking, checkpoint) if boost else (),
    )


def end_thinking_ids(text: str, checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the ids of the text that ends thinking: a token of its own, or several."""
    tokenizer = checkpoint.require_tokenizer()
    if text in tokenizer.controls:
        return (tokenizer.controls[text],)
    return tuple(tokenizer.encode(text))


def generate_all(
    sampler: TextSampler, tasks: Sequence[TextTask], samples: int = 1
) -> list[Generation]:
    """Run requests to their ends; return `samples` generations of each, in order."""
    waiting = deque((each, sample) for each in tasks for sample in range(samples))
    done: dict[int, Generation] = {}
    while waiting or sampler.live:
        while waiting and sampler.has_room:
            sampler.add(*waiting.popleft())
        done.update(
            (index, event) for index, event in sampler.step() if isinstance(event, Generation)
        )
    return [done[index] for index in sorted(done)]
