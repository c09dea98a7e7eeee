"""From a request to its task: ids, the gaps to fill, and the room that the context leaves."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from illada_core.errors import DataError
from illada_core.inference.canvas import Gap, Task, continuation
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Prompting, Request
from illada_core.inference.settings import Settings

GAP = re.compile(r"\[MASK(?::(\d+))?\]")
TRUNCATE_HINT = "--truncate left keeps the end of such prompts"


@dataclass(frozen=True)
class TextTask:
    """A request as a task for the sampler, and the settings to write it with.

    `around` are the texts around the gaps where there are several; `cut` counts the ids of the
    prompt that had to go, `unknown` those that stand for what the vocabulary lacks.
    """

    request: Request
    task: Task
    settings: Settings
    around: tuple[str, ...] = ()
    cut: int = 0
    unknown: int = 0

    @property
    def is_short(self) -> bool:
        """Whether the context leaves a continuation fewer tokens than are wanted."""
        wanted = self.settings.max_new_tokens
        return self.task.is_continuation and self.task.gaps[0].length < wanted


@dataclass(frozen=True)
class Budget:
    """How many new tokens are wanted, and what the context allows."""

    new_tokens: int
    grows: bool
    context: int
    truncate: str | None = None
    shift: bool = False


def prepare(
    request: Request, checkpoint: Checkpoint, settings: Settings, prompting: Prompting
) -> TextTask:
    """Turn a request into a task. Raises DataError or CheckpointError where that cannot be."""
    check_characters(request.texts)
    budget = Budget(
        settings.max_new_tokens,
        settings.grows,
        checkpoint.config.max_length,
        prompting.truncate,
        checkpoint.config.shift,
    )
    if request.has_gaps and checkpoint.config.is_causal:
        raise DataError("the model writes from left to right, so it cannot fill gaps in a text")
    if request.kind == "infill":
        around, task = infill_task(request.value, checkpoint, budget, prompting.bos)
        return TextTask(request, task, settings, around)
    if request.kind == "infill_ids":
        return TextTask(request, infill_ids_task(request.value, checkpoint, budget), settings)
    if request.kind == "prompt":
        ids = checkpoint.encode_text(request.value, prompting.bos)
    elif request.kind == "messages":
        ids = checkpoint.encode_chat(request.value)
    else:
        ids = request.value
        check_range(ids, checkpoint)
        if checkpoint.mask_id in ids:
            raise DataError(
                f"prompt_ids holds the mask id {checkpoint.mask_id}",
                "to have masks filled in place give the ids as infill_ids",
            )
    if not ids:
        raise DataError("the prompt is empty: it has no tokens")
    task = continue_in(ids, budget)
    unknown = checkpoint.tokenizer.count_unknown(ids) if checkpoint.tokenizer else 0
    return TextTask(request, task, settings, cut=len(ids) - len(task.runs[0]), unknown=unknown)


def check_characters(texts: Iterable[str]) -> None:
    """Raise DataError for what no tokenizer takes: lone surrogates, undecoded bytes."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise DataError("the text holds bytes or surrogates that are no characters") from None


def continue_in(ids: Sequence[int], budget: Budget) -> Task:
    """Return the task of continuing a prompt in the room that the context leaves."""
    if not budget.grows and budget.new_tokens >= budget.context:
        raise DataError(
            f"a canvas of {budget.new_tokens:,} new tokens leaves no room for a prompt in the "
            f"context of {budget.context:,}",
            "give a smaller --max-new-tokens",
        )
    if not budget.grows:
        kept = fit_prompt(ids, budget.context - budget.new_tokens, budget.truncate, budget.context)
        return continuation(kept, budget.new_tokens, grows=False)
    if len(ids) >= budget.context:
        # A prompt that must be cut anyway leaves room for what is wanted, within half the context.
        left = min(budget.new_tokens, budget.context // 2) if budget.truncate else 1
        ids = fit_prompt(ids, budget.context - left, budget.truncate, budget.context)
    return continuation(ids, min(budget.new_tokens, budget.context - len(ids)))


def check_range(ids: Sequence[int], checkpoint: Checkpoint) -> None:
    """Raise DataError for an id that the model does not have."""
    size = checkpoint.config.vocab_size
    wrong = next((number for number in ids if not 0 <= number < size), None)
    if wrong is not None:
        raise DataError(f"id {wrong} is outside the model's {size:,} ids")


def infill_task(
    text: str, checkpoint: Checkpoint, budget: Budget, bos: bool | None
) -> tuple[tuple[str, ...], Task]:
    """Cut a text at its [MASK:12] (that many tokens) and [MASK] (as many as it takes) marks.

    Returns the texts around the gaps, and the task.
    """
    tokenizer = checkpoint.require_tokenizer()
    parts = GAP.split(text)
    around, lengths = parts[::2], parts[1::2]
    if not lengths:
        raise DataError("there is nothing to fill in", "mark gaps as [MASK:12] or [MASK]")
    runs = [checkpoint.encode_text(around[0], bos), *map(tokenizer.encode, around[1:])]
    gaps = [Gap(int(n)) if n else Gap(budget.new_tokens, grows=True, may_end=True) for n in lengths]
    return tuple(around), gapped_task(runs, gaps, budget)


def infill_ids_task(ids: Sequence[int], checkpoint: Checkpoint, budget: Budget) -> Task:
    """Make each run of the mask id a gap of that length."""
    check_range(ids, checkpoint)
    runs: list[list[int]] = [[]]
    gaps: list[Gap] = []
    for number in ids:
        if number != checkpoint.mask_id:
            runs[-1].append(number)
        elif gaps and not runs[-1]:
            gaps[-1] = replace(gaps[-1], length=gaps[-1].length + 1)
        else:
            gaps.append(Gap(1))
            runs.append([])
    if not gaps:
        raise DataError(f"infill_ids does not hold the mask id {checkpoint.mask_id}")
    return gapped_task(runs, gaps, budget)


def gapped_task(runs: Sequence[Sequence[int]], gaps: Sequence[Gap], budget: Budget) -> Task:
    """Return the task of filling gaps; those that grow share what the context leaves."""
    if budget.shift and not runs[0]:
        raise DataError(
            "the text begins with a gap, and no row of logits speaks of a text's first token",
            "put something before it, such as --bos",
        )
    taken = sum(map(len, runs)) + sum(gap.length for gap in gaps if not gap.grows)
    growing = sum(gap.grows for gap in gaps)
    if taken + growing > budget.context:
        raise DataError(
            f"the text with its gaps takes {taken + growing:,} tokens, "
            f"and the context is {budget.context:,}"
        )
    share = (budget.context - taken) // max(1, growing)
    sized = [replace(gap, length=min(gap.length, share)) if gap.grows else gap for gap in gaps]
    return Task(tuple(map(tuple, runs)), tuple(sized))


def fit_prompt(ids: Sequence[int], room: int, truncate: str | None, context: int) -> list[int]:
    """Return a prompt of at most `room` ids: its end, if `truncate` is "left".

    Raises DataError for one that is too long otherwise.
    """
    if len(ids) <= room:
        return list(ids)
    if truncate != "left":
        raise DataError(
            f"the prompt is {len(ids):,} tokens long, and the context of {context:,} leaves "
            f"room for {room:,}",
            TRUNCATE_HINT,
        )
    return list(ids[len(ids) - room :])
