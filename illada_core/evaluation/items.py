"""What is asked to be scored, a prompt and its choices as text or as ids, and how it is encoded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from zlib import crc32

import numpy as np

from illada_core.errors import CheckpointError, DataError, UsageError
from illada_core.evaluation.scoring import Item, Masking, Rule, confidence, likelihood, one_shot
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Prompting, checked_ids
from illada_core.inference.tasks import check_characters, check_range, fit_prompt
from illada_core.text.messages import Message, parse_messages
from illada_core.text.pairs import encode_continuations

RuleName = Literal["confidence", "likelihood", "one-shot"]
Normalize = Literal["sum", "token", "byte"]
PROMPT_NAMES = ("prompt", "query", "messages")
ANSWER_NAMES = ("answer", "gold")
MOST_SAMPLES = 2**20


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """What decides a score beside the weights and the ids.

    `delimiter` stands between prompt and choice. With `visible_eos` an eos is seen after each
    choice. `samples` and `stop_gap` are about the likelihood rule: the most masks drawn for a
    choice, and the lead of the best, in standard errors, at which drawing stops (0: never). `cfg`
    is classifier-free guidance.
    """

    rule: RuleName = "confidence"
    normalize: Normalize = "sum"
    delimiter: str = ""
    visible_eos: bool = False
    samples: int = 128
    stop_gap: float = 4.0
    cfg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("rule", get_args(RuleName)), ("normalize", get_args(Normalize))):
            if vars(self)[name] not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}, not {vars(self)[name]!r}")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UsageError(f"samples is 1 to {MOST_SAMPLES}, not {self.samples}")
        for name in ("stop_gap", "cfg", "seed"):
            if not vars(self)[name] >= 0:
                raise UsageError(f"{name} must be at least 0, not {vars(self)[name]}")


@dataclass(frozen=True)
class ChoiceRequest:
    """A prompt with its choices, both as text or both as ids; `answer` is the right one's place.

    A conversation is a prompt too: the choices are what the assistant may say next.
    """

    prompt: str | tuple[Message, ...] | list[int]
    choices: Sequence[Any]
    answer: int | None = None
    line: int | None = None
    id: Any = None


@dataclass(frozen=True)
class ChoiceItem:
    """A request as ids.

    `text_bytes` are the choices' sizes, None where they are only ids; `cut` counts the prompt
    tokens that had to go.
    """

    request: ChoiceRequest
    item: Item
    text_bytes: tuple[int, ...] | None
    cut: int


def rule_for(settings: ScoringSettings, checkpoint: Checkpoint) -> Rule:
    """Return the rule that scores one item."""
    masking = Masking(checkpoint.mask_id, tail_ids(settings, checkpoint))
    if settings.rule == "confidence":
        return lambda item: confidence(item, masking)
    if settings.rule == "one-shot":
        return lambda item: one_shot(item, masking)
    return lambda item: likelihood(
        item, masking, settings.samples, settings.seed, settings.stop_gap
    )


def tail_ids(settings: ScoringSettings, checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return what stands after each choice: an eos, if it is to be seen.

    Raises CheckpointError where there is none.
    """
    if not settings.visible_eos:
        return ()
    in_files = checkpoint.tokenizer.special.eos if checkpoint.tokenizer else None
    eos_id = in_files if checkpoint.config.eos_id is None else checkpoint.config.eos_id
    if eos_id is None:
        raise CheckpointError(
            f"{checkpoint.folder} names no eos id, so --visible-eos has nothing to show"
        )
    return (eos_id,)


def read_choice_request(line: int | None, fields: dict[str, Any]) -> ChoiceRequest:
    """Read the fields of an item. Raises DataError that says what is missing or wrong."""
    answer = one_of(fields, ANSWER_NAMES)
    if "prompt_ids" in fields or "choices_ids" in fields:
        prompt: Any = checked_ids("prompt_ids", fields.get("prompt_ids"))
        choices = fields.get("choices_ids")
        if isinstance(choices, list):
            choices = [checked_ids("an element of choices_ids", ids) for ids in choices]
    else:
        prompt, choices = prompt_of(fields), fields.get("choices")
        if isinstance(choices, list) and not all(isinstance(text, str) for text in choices):
            raise DataError("choices must be strings")
    if not isinstance(choices, list) or not choices:
        raise DataError("choices (or choices_ids) must be a list of at least one choice")
    return ChoiceRequest(prompt, choices, place_of(answer, choices), line, fields.get("id"))


def prompt_of(fields: dict[str, Any]) -> str | tuple[Message, ...]:
    """Return the prompt of an item, or its conversation. Raises DataError."""
    prompt = one_of(fields, PROMPT_NAMES)
    if "messages" in fields:
        return tuple(parse_messages(prompt))
    if not isinstance(prompt, str):
        raise DataError("a line must hold prompt (or query) as a string, messages, or prompt_ids")
    return prompt


def one_of(fields: dict[str, Any], names: Sequence[str]) -> Any:
    """Return the value under one of several names; None if there is none. Two are an error."""
    present = [name for name in names if fields.get(name) is not None]
    if len(present) > 1:
        raise DataError(f"a line must not hold both {' and '.join(present)}")
    return fields[present[0]] if present else None


def place_of(answer: Any, choices: Sequence[Any]) -> int | None:
    """Return which choice an answer means: its place counted from 0, or its very text."""
    if answer is None:
        return None
    if type(answer) is int and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str) and choices.count(answer) == 1:
        return choices.index(answer)
    raise DataError(
        f"the answer {json.dumps(answer)} is none of the {len(choices)} choices",
        "give its place, counted from 0, or its text",
    )


def prepare_item(
    request: ChoiceRequest,
    checkpoint: Checkpoint,
    settings: ScoringSettings,
    prompting: Prompting,
) -> ChoiceItem:
    """Encode a request and see that it fits the context. Raises DataError or CheckpointError."""
    prompt_ids, choices_ids = encode(request, checkpoint, settings, prompting)
    context, tail = checkpoint.config.max_length, len(tail_ids(settings, checkpoint))
    for number, ids in enumerate(choices_ids, 1):
        if not ids:
            raise DataError(f"choice {number} tokenizes to nothing after this prompt")
        if len(ids) + tail > context:
            raise DataError(
                f"choice {number} is {len(ids):,} tokens long, and the context is {context:,}"
            )
    room = context - tail - max(map(len, choices_ids))
    kept = fit_prompt(prompt_ids, room, prompting.truncate, context)
    text_bytes = byte_counts(request, checkpoint)
    array = np.array(kept, dtype=np.int64)
    item = Item(
        prompt=array,
        choices=tuple(np.array(ids, dtype=np.int64) for ids in choices_ids),
        divisors=divisors(settings.normalize, choices_ids, text_bytes),
        noise_key=crc32(array.tobytes()),
    )
    return ChoiceItem(request, item, text_bytes, len(prompt_ids) - len(kept))


def encode(
    request: ChoiceRequest,
    checkpoint: Checkpoint,
    settings: ScoringSettings,
    prompting: Prompting,
) -> tuple[list[int], list[list[int]]]:
    """Return the ids of prompt and choices. Raises DataError for ids that cannot be scored."""
    if isinstance(request.prompt, list):
        for ids in (request.prompt, *request.choices):
            check_range(ids, checkpoint)
            if checkpoint.mask_id in ids:
                raise DataError(f"the ids hold the mask id {checkpoint.mask_id}")
        return request.prompt, list(request.choices)
    for number, choice in enumerate(request.choices, 1):
        if not choice:
            raise DataError(f"choice {number} is empty")
    continuations = [settings.delimiter + choice for choice in request.choices]
    check_characters([*prompt_texts(request), *continuations])
    tokenizer = checkpoint.require_tokenizer()
    if isinstance(request.prompt, tuple):
        return checkpoint.encode_chat(request.prompt), [*map(tokenizer.encode, continuations)]
    prompt_ids, choices_ids = encode_continuations(tokenizer.encode, request.prompt, continuations)
    return [*checkpoint.encode_text("", prompting.bos), *prompt_ids], choices_ids


def prompt_texts(request: ChoiceRequest) -> list[str]:
    """Return the texts that a prompt is made of; none where it is ids."""
    if isinstance(request.prompt, tuple):
        return [message.content for message in request.prompt]
    return [request.prompt] if isinstance(request.prompt, str) else []


def byte_counts(request: ChoiceRequest, checkpoint: Checkpoint) -> tuple[int, ...] | None:
    """Return the UTF-8 sizes of the choices as they were given, or as their ids read."""
    if not isinstance(request.prompt, list):
        return tuple(len(choice.encode()) for choice in request.choices)
    if checkpoint.tokenizer is None:
        return None
    texts = (checkpoint.tokenizer.decode(ids, keep_special=True) for ids in request.choices)
    return tuple(max(1, len(text.encode())) for text in texts)


def divisors(
    normalize: Normalize, choices_ids: Sequence[Sequence[int]], text_bytes: tuple[int, ...] | None
) -> tuple[float, ...]:
    """Return what to divide each choice's sum by before choices are compared."""
    if normalize == "byte":
        if text_bytes is None:
            raise DataError("ids without a tokenizer have no bytes", "use --normalize token or sum")
        return tuple(map(float, text_bytes))
    return tuple(float(len(ids)) if normalize == "token" else 1.0 for ids in choices_ids)
