"""Bodies of requests: what is asked for, checked, in the words of OpenAI's API and our own.

The settings of a generation lie flat in a body, by the names that options and presets have. What
cannot be honoured is refused, never ignored; so is a name that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from illada_core.decoding import shaped
from illada_core.errors import UsageError
from illada_core.evaluation.items import ChoiceItem, ScoringSettings, prepare_item
from illada_core.evaluation.shapes import FIELDS, read_choice_request
from illada_core.inference.canvas import Gap
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.presets import load_preset, packaged_presets
from illada_core.inference.requests import Prompting, Request
from illada_core.inference.settings import Settings, merge_settings
from illada_core.inference.tasks import Budget, TextTask, check_characters, gapped_task, prepare
from illada_core.inference.text_sampler import complete_settings
from illada_core.text.messages import VARIABLES, parse_dialogue

MOST_MESSAGES = 1000
MOST_TEXTS = 64  # of one request
MOST_SAMPLES = 8
MOST_STOPS = 16
MOST_CHOICES = 64  # to be scored

SETTINGS = tuple(field.name for field in fields(Settings))
SCORING = tuple(field.name for field in fields(ScoringSettings))
LENGTHS = ("max_completion_tokens", "max_tokens", "max_new_tokens")
PROMPTING = ("bos", "truncate")
# Named by clients, and of no effect on a text by anybody's reading.
IGNORED = (
    "model",
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "stream_options",
    "parallel_tool_calls",
)
# Not to be had here, but for values that ask for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logit_bias": ({},),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
    "steps": (),
}
REASONS = {
    "logprobs": "a probability is that of a step here, not of a chain: /illada/stream tells it",
    "steps": "say steps_per_block: the steps of one block",
    "response_format": "nothing here keeps a text to a form",
    "tools": "no tool can be called from here",
}
ALIASES = {"cfg_scale": "cfg"}


class BodyError(UsageError):
    """A body that cannot be honoured; `param` names what in it."""

    def __init__(self, sentence: str, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(sentence, hint)
        self.param = param


@dataclass(frozen=True)
class Desk:
    """What bodies are read against: the checkpoint, and what holds where they say nothing."""

    checkpoint: Checkpoint
    settings: Settings
    prompting: Prompting


@dataclass(frozen=True)
class Asked:
    """Texts that are asked for: each task as often as there are samples of it, in order."""

    tasks: list[tuple[TextTask, int]]
    is_streamed: bool = False
    has_usage: bool = False


def read_chat(body: Mapping[str, Any], desk: Desk) -> Asked:
    """Read the body of a chat completion. Raises BodyError, or DataError for its messages."""
    known(body, ("messages", "n", "stream", VARIABLES, *LENGTHS))
    return repeated([chat_request(body)], body, desk)


def read_completion(body: Mapping[str, Any], desk: Desk) -> Asked:
    """Read the body of a completion; with `suffix` what stands between is written."""
    known(body, ("prompt", "suffix", "n", "best_of", "stream", *LENGTHS))
    suffix = value_of(body, "suffix", str | None, None)
    best_of = value_of(body, "best_of", int | None, None)
    if best_of is not None and best_of != value_of(body, "n", int, 1):
        raise BodyError("best_of is not to be had, unless it is n", "best_of")
    prompts = prompts_of(body)
    if not suffix:
        return repeated(prompts, body, desk)
    if len(prompts) != 1 or prompts[0].kind != "prompt":
        raise BodyError("suffix goes with one prompt of text", "suffix")
    return repeated(prompts, body, desk, suffix)


def read_infill(body: Mapping[str, Any], desk: Desk) -> Asked:
    """Read the body of an infilling: a `text` with gaps, or `infill_ids`."""
    known(body, ("text", "infill_ids", "n", *LENGTHS))
    return repeated([infill_request(body)], body, desk)


def read_stream(body: Mapping[str, Any], desk: Desk) -> Asked:
    """Read the body of a text whose every step is wanted: messages, a prompt or a text with gaps.

    `sample` tells repeats of it apart.
    """
    names = ("messages", "prompt", "text", "infill_ids")
    known(body, (*names, "sample", VARIABLES, *LENGTHS))
    present = [name for name in names if body.get(name) is not None]
    if len(present) != 1:
        raise BodyError(f"a body must hold one of {', '.join(names)}")
    if present[0] == "messages":
        requests = [chat_request(body)]
    elif present[0] == "prompt":
        requests = prompts_of(body)
    else:
        requests = [infill_request(body)]
    if len(requests) != 1:
        raise BodyError("one text at a time is streamed", "prompt")
    asked = repeated(requests, body, desk)
    sample = within(body, "sample", 0, 2**31)
    return replace(asked, tasks=[(task, sample) for task, _ in asked.tasks])


@dataclass(frozen=True)
class ScoreAsked:
    """An item to be scored, and how."""

    item: ChoiceItem
    settings: ScoringSettings


def read_score(body: Mapping[str, Any], desk: Desk) -> ScoreAsked:
    """Read the body of an item, as a line of `illada score --choices` holds it, and its rule."""
    known(body, (*FIELDS, *SCORING), with_settings=False)
    given = {name: body[name] for name in SCORING if body.get(name) is not None}
    try:
        settings: ScoringSettings = shaped(given, ScoringSettings, "the body")
    except ValueError as error:
        raise BodyError(str(error)) from None
    item = {name: value for name, value in body.items() if name in FIELDS}
    request = read_choice_request(None, item)
    if len(request.choices) > MOST_CHOICES:
        raise BodyError(f"at most {MOST_CHOICES} choices are scored at once", "choices")
    prompting = prompting_of(body, desk)
    return ScoreAsked(prepare_item(request, desk.checkpoint, settings, prompting), settings)


def tokens_of(body: Mapping[str, Any], desk: Desk) -> list[int]:
    """Return the ids of a text (`content` or `prompt`), or of a conversation."""
    known(body, ("content", "prompt", "messages", "tools", VARIABLES), with_settings=False)
    if body.get("messages") is not None:
        return desk.checkpoint.encode_chat(chat_request(body).value)
    name = "prompt" if body.get("content") is None else "content"
    text = value_of(body, name, str)
    check_characters([text])
    return desk.checkpoint.encode_text(text, prompting_of(body, desk).bos)


def text_of(body: Mapping[str, Any], desk: Desk) -> str:
    """Return the text of `tokens`, control tokens left out."""
    known(body, ("tokens",), with_settings=False)
    return desk.checkpoint.require_tokenizer().decode(value_of(body, "tokens", list[int]))


def known(body: Mapping[str, Any], names: Sequence[str], with_settings: bool = True) -> None:
    """Raise BodyError for a name that cannot be honoured here. null is as if it were not there."""
    also = (*SETTINGS, *ALIASES, "preset", "stream_options") if with_settings else ()
    all_known = {*names, *also, *PROMPTING, *IGNORED}
    for name, value in body.items():
        if value is None or name in all_known or asks_nothing(name, value):
            continue
        if name in REFUSED:
            reason = REASONS.get(name, "it cannot be honoured")
            raise BodyError(f"{name} is not to be had here: {reason}", name)
        near = get_close_matches(name, all_known, n=1)
        hint = f"did you mean {near[0]}?" if near else None
        raise BodyError(f"{name[:80]!r} is no name that is known here", name[:80], hint)
    value_of(body, "model", str | None, None)


def asks_nothing(name: str, value: Any) -> bool:
    """Tell whether something that cannot be honoured need not be."""
    neutral = REFUSED.get(name, ())
    return any(type(value) is type(each) and value == each for each in neutral)


NEEDED: Any = object()


def value_of(body: Mapping[str, Any], name: str, kind: Any, default: Any = NEEDED) -> Any:
    """Return a value of a body as its kind. Raises BodyError."""
    value = body.get(name)
    if value is None:
        if default is NEEDED:
            raise BodyError(f"the body must hold {name}", name)
        return default
    try:
        return shaped(value, kind, name)
    except ValueError as error:
        raise BodyError(str(error), name) from None


def within(body: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a whole number of a body, its least value where there is none. Raises BodyError."""
    value: int = value_of(body, name, int, least)
    if not least <= value <= most:
        raise BodyError(f"{name} must be {least} to {most}, not {value}", name)
    return value


def chat_request(body: Mapping[str, Any]) -> Request:
    """Return the conversation of a body; it must be the assistant's turn."""
    messages = value_of(body, "messages", list[dict[str, Any]])
    if len(messages) > MOST_MESSAGES:
        raise BodyError(f"at most {MOST_MESSAGES:,} messages are read", "messages")
    turns = [{**each, "role": "system"} if is_developer(each) else each for each in messages]
    variables = value_of(body, VARIABLES, dict[str, Any] | None, None)
    dialogue = parse_dialogue({VARIABLES: variables}, turns)
    for number, message in enumerate(dialogue.messages):
        if message.role == "tool" or message.facts.get("tool_calls"):
            raise BodyError(f"message {number} is about tools: {REASONS['tools']}", "messages")
    if dialogue.messages[-1].role == "assistant":
        raise BodyError("the last message is the assistant's: there is nothing to answer")
    return Request("messages", dialogue)


def is_developer(message: Mapping[str, Any]) -> bool:
    """Tell whether a message is what others call a system's."""
    return message.get("role") == "developer"


def prompts_of(body: Mapping[str, Any]) -> list[Request]:
    """Return the prompts of a body: a text or ids, or a list of such."""
    prompt = value_of(body, "prompt", Any)
    are_many = isinstance(prompt, list) and not (prompt and is_whole(prompt[0]))
    prompts = prompt if are_many else [prompt]
    requests = []
    for each in prompts:
        is_text = isinstance(each, str)
        if not is_text and not (isinstance(each, list) and all(map(is_whole, each))):
            raise BodyError("prompt is a string, ids, or a list of such", "prompt")
        if not each:
            raise BodyError("the prompt is empty", "prompt")
        requests.append(Request("prompt" if is_text else "prompt_ids", each))
    if not requests:
        raise BodyError("the prompt is empty", "prompt")
    return requests


def infill_request(body: Mapping[str, Any]) -> Request:
    """Return the text with gaps of a body, or its ids."""
    if body.get("infill_ids") is not None:
        return Request("infill_ids", value_of(body, "infill_ids", list[int]))
    return Request("infill", value_of(body, "text", str))


def repeated(
    requests: Sequence[Request], body: Mapping[str, Any], desk: Desk, suffix: str | None = None
) -> Asked:
    """Return the tasks of requests, `n` of each. Raises BodyError or DataError."""
    samples = within(body, "n", 1, MOST_SAMPLES)
    if len(requests) * samples > MOST_TEXTS:
        raise BodyError(f"at most {MOST_TEXTS} texts are written for one request")
    settings, prompting = settings_of(body, desk), prompting_of(body, desk)
    tasks = [
        prepare(request, desk.checkpoint, settings, prompting)
        if suffix is None
        else between(request, suffix, desk.checkpoint, settings, prompting)
        for request in requests
    ]
    options = value_of(body, "stream_options", dict[str, Any] | None, None) or {}
    return Asked(
        [(task, sample) for task in tasks for sample in range(samples)],
        is_streamed=value_of(body, "stream", bool, False),
        has_usage=value_of(options, "include_usage", bool, False),
    )


def between(
    request: Request, suffix: str, checkpoint: Checkpoint, settings: Settings, prompting: Prompting
) -> TextTask:
    """Return the task of writing what stands between a prompt and what follows it."""
    check_characters([request.value, suffix])
    after = checkpoint.require_tokenizer().encode(suffix)
    runs = [checkpoint.encode_text(request.value, prompting.bos), after]
    budget = Budget(settings.max_new_tokens, settings.grows, checkpoint.config.max_length)
    gap = Gap(settings.max_new_tokens, grows=True, may_end=True)
    return TextTask(request, gapped_task(runs, [gap], budget), settings)


def settings_of(body: Mapping[str, Any], desk: Desk) -> Settings:
    """Return the settings of a body over its preset over the server's. Raises UsageError."""
    base = dict(vars(desk.settings))
    preset = value_of(body, "preset", str | None, None)
    if preset is not None:
        if preset not in packaged_presets():  # never a path of this machine
            known_presets = ", ".join(packaged_presets())
            raise BodyError(f"there is no preset {preset!r}", "preset", f"known: {known_presets}")
        base = merge_settings(base, load_preset(preset))
    given = {ALIASES.get(name, name): value for name, value in body.items() if value is not None}
    changes = {name: given[name] for name in SETTINGS if name in given}
    lengths = {given[name] for name in LENGTHS if is_whole(given.get(name))}
    if len(lengths) > 1:
        raise BodyError(
            f"{', '.join(name for name in LENGTHS if name in given)} differ", LENGTHS[0]
        )
    for name in LENGTHS:
        if name in given:
            changes["max_new_tokens"] = given[name]
            break
    if isinstance(changes.get("stop"), str):
        changes["stop"] = [changes["stop"]]
    try:
        settings = Settings(**merge_settings(base, changes))
        settings, _ = complete_settings(settings, desk.checkpoint)
    except UsageError as error:
        first = error.sentence.partition(" ")[0]
        param = first if first in SETTINGS else None
        raise BodyError(error.sentence.removeprefix("--"), param, error.hint) from None
    if len(settings.stop) > MOST_STOPS:
        raise BodyError(f"at most {MOST_STOPS} strings can end a text", "stop")
    return settings


def is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number."""
    return type(value) is int


def prompting_of(body: Mapping[str, Any], desk: Desk) -> Prompting:
    """Return how the prompts of a body become ids. Raises BodyError."""
    bos = value_of(body, "bos", bool | None, desk.prompting.bos)
    truncate = value_of(body, "truncate", str | None, desk.prompting.truncate)
    if truncate not in (None, "left"):
        raise BodyError(f"truncate is 'left' or null, not {truncate!r}", "truncate")
    return Prompting(bos, truncate)
