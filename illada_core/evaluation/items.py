"""What is asked to be scored as ids: prompt and choices encoded, and seen to fit the context."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args
from zlib import crc32

import numpy as np

from illada_core.errors import CheckpointError, DataError, UsageError
from illada_core.evaluation.measures import Normalize, Sizes, text_sizes
from illada_core.evaluation.scoring import (
    Item,
    Masking,
    Rule,
    best_first,
    confidence,
    exact,
    likelihood,
    one_shot,
)
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Prompting
from illada_core.inference.settings import MOST_GUIDANCE
from illada_core.inference.tasks import check_characters, check_range, fit_prompt
from illada_core.text.messages import Dialogue
from illada_core.text.pairs import encode_continuations

RuleName = Literal["confidence", "likelihood", "one-shot", "exact"]
MOST_SAMPLES = 2**20


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """What decides a score beside the weights and the ids.

    `normalize` says by what choices are compared, `delimiter` stands between prompt and choice.
    With `visible_eos` an eos is seen after each choice. With `pick_only` the confidence rule
    leaves choices that cannot win unfinished. `samples` and `stop_gap` are about the likelihood
    rule: the most masks drawn for a choice, and the lead of the best, in standard errors, at which
    drawing stops (0: never). `cfg` is classifier-free guidance. `complete_scoring` fits them to a
    model: the rule `exact` and a model that writes from left to right belong together.
    """

    rule: RuleName = "confidence"
    normalize: Normalize = "sum"
    delimiter: str = ""
    visible_eos: bool = False
    pick_only: bool = False
    samples: int = 128
    stop_gap: float = 4.0
    cfg: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("rule", get_args(RuleName)), ("normalize", get_args(Normalize))):
            if vars(self)[name] not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}, not {vars(self)[name]!r}")
        if self.pick_only and self.rule != "confidence":
            raise UsageError(f"pick_only is about the rule confidence, not {self.rule}")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UsageError(f"samples is 1 to {MOST_SAMPLES}, not {self.samples}")
        if self.cfg > MOST_GUIDANCE:
            raise UsageError(f"cfg must be at most {MOST_GUIDANCE}, not {self.cfg}")
        for name in ("stop_gap", "cfg", "seed"):
            if not vars(self)[name] >= 0:
                raise UsageError(f"{name} must be at least 0, not {vars(self)[name]}")


@dataclass(frozen=True)
class ChoiceItem:
    """A request as ids.

    `sizes` are those of the choices, which `normalize` says how to use; `cut` counts the prompt
    tokens that had to go; `apart` are the places of choices that melt into their prompt, and were
    encoded by themselves; `unknown` counts tokens that stand for what the vocabulary lacks.
    """

    request: ChoiceRequest
    item: Item
    sizes: Sizes
    normalize: Normalize = "sum"
    cut: int = 0
    apart: tuple[int, ...] = ()
    unknown: int = 0


def complete_scoring(settings: ScoringSettings, checkpoint: Checkpoint) -> ScoringSettings:
    """Return settings with the rule that a model allows. Raises UsageError where there is none.

    A model that writes from left to right gives exact likelihoods, and nothing else.
    """
    if not checkpoint.config.is_causal:
        if settings.rule == "exact":
            raise UsageError(
                "the rule exact needs a model that writes from left to right",
                "--rule likelihood bounds the likelihood of one that fills masks",
            )
        return settings
    if settings.cfg:
        raise UsageError("the model hides no tokens, so cfg has nothing to leave out")
    if not checkpoint.config.shift:
        raise UsageError(
            "attention is causal and a row of logits speaks of its own token: it has seen it",
            "--shift reads the row before each token, --attention full hides tokens",
        )
    return replace(settings, rule="exact", pick_only=False, visible_eos=False)


def rule_for(settings: ScoringSettings, checkpoint: Checkpoint) -> Rule:
    """Return the rule that scores one item."""
    settings = complete_scoring(settings, checkpoint)
    if settings.rule == "exact":
        return exact
    masking = Masking(checkpoint.mask_id, tail_ids(settings, checkpoint))
    if settings.rule == "confidence":
        how = best_first if settings.pick_only else confidence
        return lambda item: how(item, masking)
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


def prepare_item(
    request: ChoiceRequest,
    checkpoint: Checkpoint,
    settings: ScoringSettings,
    prompting: Prompting,
) -> ChoiceItem:
    """Encode a request and see that it fits the context. Raises DataError or CheckpointError."""
    encoded = encode(request, checkpoint, settings, prompting)
    context, tail = checkpoint.config.max_length, len(tail_ids(settings, checkpoint))
    for number, ids in enumerate(encoded.choices, 1):
        if not ids:
            raise DataError(f"choice {number} tokenizes to nothing after this prompt")
        if len(ids) + tail > context:
            raise DataError(
                f"choice {number} is {len(ids):,} tokens long, and the context is {context:,}"
            )
    room = context - tail - max(map(len, encoded.choices))
    kept = [fit_prompt(ids, room, prompting.truncate, context) for ids in encoded.prompts]
    sizes = choice_sizes(request, encoded.choices, checkpoint)
    divisors = sizes.divisors(settings.normalize)
    if divisors is None:
        raise DataError(
            f"ids without a tokenizer have no {settings.normalize}s",
            "use --normalize token or sum",
        )
    if checkpoint.config.shift and not all(kept):
        raise DataError(
            "the prompt has no tokens, and no row of logits speaks of a text's first",
            "put something before the choices, such as --bos",
        )
    prompts = [np.array(ids, dtype=np.int64) for ids in kept]
    item = Item(
        prompt=prompts[0],
        choices=tuple(np.array(ids, dtype=np.int64) for ids in encoded.choices),
        divisors=divisors,
        noise_key=crc32(b"".join(array.tobytes() for array in prompts)),
        contexts=tuple(prompts) if request.contexts else (),
    )
    cut = sum(map(len, encoded.prompts)) - sum(map(len, kept))
    unknown = 0
    if checkpoint.tokenizer:
        unknown = sum(map(checkpoint.tokenizer.count_unknown, (*kept, *encoded.choices)))
    return ChoiceItem(request, item, sizes, settings.normalize, cut, encoded.apart, unknown)


@dataclass(frozen=True)
class Encoded:
    """The ids of a prompt, or of one for each choice, and of the choices."""

    prompts: list[list[int]]
    choices: list[list[int]]
    apart: tuple[int, ...] = ()


def encode(
    request: ChoiceRequest,
    checkpoint: Checkpoint,
    settings: ScoringSettings,
    prompting: Prompting,
) -> Encoded:
    """Return a request as ids. Raises DataError for what cannot be scored."""
    if isinstance(request.prompt, list):
        for ids in (request.prompt, *request.choices):
            check_range(ids, checkpoint)
            if checkpoint.mask_id in ids:
                raise DataError(f"the ids hold the mask id {checkpoint.mask_id}")
        return Encoded([request.prompt], list(request.choices))
    for number, choice in enumerate(request.choices, 1):
        if not choice:
            raise DataError(f"choice {number} is empty")
    continuations = [settings.delimiter + choice for choice in request.choices]
    check_characters([*request.texts, *continuations])
    tokenizer = checkpoint.require_tokenizer()
    if isinstance(request.prompt, Dialogue):
        prompt = checkpoint.encode_chat(request.prompt)
        return Encoded([prompt], [*map(tokenizer.encode, continuations)])
    front = checkpoint.encode_text("", prompting.bos)
    if not request.contexts:
        found = encode_continuations(tokenizer.encode, request.prompt, continuations)
        return Encoded([[*front, *found.prompt]], found.continuations, found.apart)
    pairs = [
        encode_continuations(tokenizer.encode, context, [continuation])
        for context, continuation in zip(request.contexts, continuations, strict=True)
    ]
    return Encoded(
        [[*front, *pair.prompt] for pair in pairs],
        [pair.continuations[0] for pair in pairs],
        tuple(place for place, pair in enumerate(pairs) if pair.apart),
    )


def choice_sizes(
    request: ChoiceRequest, choices_ids: Sequence[Sequence[int]], checkpoint: Checkpoint
) -> Sizes:
    """Return the sizes of the choices as they were given, or as their ids read."""
    tokens = [len(ids) for ids in choices_ids]
    if not isinstance(request.prompt, list):
        return text_sizes(request.choices, tokens)
    if checkpoint.tokenizer is None:
        return Sizes(tuple(tokens))
    texts = [checkpoint.tokenizer.decode(ids, keep_special=True) for ids in request.choices]
    return text_sizes(texts, tokens)
