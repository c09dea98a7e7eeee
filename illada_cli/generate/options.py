"""What may be set of a generation: each setting once, for the options, presets and /set.

A field of `Asked` is an option of generate and of chat. Those in DEFAULTS are also the keys of a
preset and the settings of a chat, and whatever they come from they may be the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache, wraps
from math import isfinite
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from illada_cli import options
from illada_cli.generate.presets import read_preset
from illada_core.errors import UsageError

LENGTH = "Length"
CHOICE = "Choice of tokens"
COMMITS = "Order of commits"

# The value where neither a preset nor an option gives one; None is a number that is not given.
DEFAULTS: Mapping[str, Any] = {
    "canvas": "variable",
    "max_new_tokens": 1024,
    "block_length": None,  # the checkpoint's
    "steps_per_block": None,  # one for each token
    "stop": [],
    "temperature": 0.0,
    "top_p": 1.0,
    "seed": 0,
    "cfg": 0.0,
    "eos_guard": "none",
    "end_thinking": "</think>",
    "end_thinking_boost": 0.0,
    "end_thinking_power": 2.0,
    "remasking": "low-confidence",
    "threshold": None,
    "factor": None,
    "entropy_bound": None,
}
COMMIT_RULES: Mapping[str, Literal["threshold", "factor", "entropy-bound"]] = {
    "threshold": "threshold",
    "factor": "factor",
    "entropy_bound": "entropy-bound",
}
KINDS = {int: "a whole number", float: "a number", str: "a string"}


@dataclass(frozen=True)
class Asked:
    """The options of a generation as they were given; None for one that was not."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Settings by name (gsm8k-instruct) or TOML file.",
            rich_help_panel=LENGTH,
        ),
    ] = None
    canvas: Annotated[
        Literal["variable", "fixed"] | None,
        typer.Option(
            "--canvas",
            help="Append blocks of masks until the text ends, or begin with all masks "
            "[default: variable].",
            rich_help_panel=LENGTH,
        ),
    ] = None
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens",
            help="Most new tokens [default: 1024].",
            min=1,
            rich_help_panel=LENGTH,
        ),
    ] = None
    block_length: Annotated[
        int | None,
        typer.Option(
            "--block-length",
            help="Positions filled together [default: the model's, else 32].",
            min=1,
            rich_help_panel=LENGTH,
        ),
    ] = None
    steps_per_block: Annotated[
        int | None,
        typer.Option(
            "--steps-per-block",
            help="Most steps a block may take [default: one for each token].",
            min=1,
            rich_help_panel=LENGTH,
        ),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", help="A string that ends a text; repeatable.", rich_help_panel=LENGTH
        ),
    ] = None
    stop_id: Annotated[
        list[int] | None,
        typer.Option(
            "--stop-id", help="An id that ends a text; repeatable.", rich_help_panel=LENGTH
        ),
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            help="Of the draw; 0 takes the likeliest token [default: 0].",
            min=0.0,
            rich_help_panel=CHOICE,
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            help="Draw only from this share of the probability [default: 1].",
            min=0.0,
            max=1.0,
            rich_help_panel=CHOICE,
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="Seed of every random choice [default: 0].",
            min=0,
            rich_help_panel=CHOICE,
        ),
    ] = None
    cfg: options.Cfg = None
    eos_guard: Annotated[
        Literal["none", "logits", "confidence"] | None,
        typer.Option(
            "--eos-guard",
            help="Never choose what ends a text (logits), or commit it last (confidence) "
            "[default: none].",
            rich_help_panel=CHOICE,
        ),
    ] = None
    end_thinking: Annotated[
        str | None,
        typer.Option(
            "--end-thinking",
            help="The text that ends thinking [default: </think>].",
            rich_help_panel=CHOICE,
        ),
    ] = None
    end_thinking_boost: Annotated[
        float | None,
        typer.Option(
            "--end-thinking-boost",
            help="Most that is added to its logit as the text grows [default: 0].",
            min=0.0,
            rich_help_panel=CHOICE,
        ),
    ] = None
    end_thinking_power: Annotated[
        float | None,
        typer.Option(
            "--end-thinking-power",
            help="How late the boost grows [default: 2].",
            min=0.0,
            rich_help_panel=CHOICE,
        ),
    ] = None
    remasking: Annotated[
        Literal["low-confidence", "random", "margin", "entropy"] | None,
        typer.Option(
            "--remasking",
            help="What decides which tokens stay masked [default: low-confidence].",
            rich_help_panel=COMMITS,
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Commit also all tokens at least this probable, such as 0.9.",
            min=0.0,
            max=1.0,
            rich_help_panel=COMMITS,
        ),
    ] = None
    factor: Annotated[
        float | None,
        typer.Option(
            "--factor",
            help="Commit also the n likeliest while (n + 1)(1 - p) is below this, such as 1.",
            min=0.0,
            rich_help_panel=COMMITS,
        ),
    ] = None
    entropy_bound: Annotated[
        float | None,
        typer.Option(
            "--entropy-bound",
            help="Commit also the surest while their joint entropy is at most this, such as 0.1.",
            min=0.0,
            rich_help_panel=COMMITS,
        ),
    ] = None


@cache
def option_types() -> dict[str, Any]:
    """Return the annotation of each field of Asked: its type and its option."""
    return get_type_hints(Asked, include_extras=True)


def takes_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for each field of Asked in place of its parameter `asked`."""
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=option_types()[field.name],
        )
        for field in fields(Asked)
    ]

    @wraps(verb)
    def called(**given: Any) -> None:
        asked = Asked(**{field.name: given.pop(field.name) for field in fields(Asked)})
        verb(asked=asked, **given)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        parameters += shared if parameter.name == "asked" else [parameter]
    # Where typer and the completions look for what a verb takes.
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def settle(asked: Asked) -> dict[str, Any]:
    """Return all settings of DEFAULTS: options that were given, else the preset's, else these.

    Raises UsageError for an unknown preset, a value that cannot be, or two commit rules at once.
    """
    values = {key: value for key in DEFAULTS if (value := vars(asked)[key]) is not None}
    given = {key: checked(key, value) for key, value in values.items()}
    refuse_two_rules([f"--{key.replace('_', '-')}" for key in COMMIT_RULES if key in given])
    base = load_preset(asked.preset) if asked.preset else {}
    if given.keys() & COMMIT_RULES:
        base = {key: value for key, value in base.items() if key not in COMMIT_RULES}
    return {**DEFAULTS, **base, **given}


def refuse_two_rules(names: list[str]) -> None:
    """Raise UsageError where two commit rules are asked for."""
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} are two commit rules, and only one can decide")


def load_preset(wanted: str) -> dict[str, Any]:
    """Return the settings of a preset. Raises UsageError for any that cannot be."""
    path, table = read_preset(wanted)
    try:
        refuse_two_rules([key for key in COMMIT_RULES if key in table])
        return {key: checked(key, value) for key, value in table.items()}
    except UsageError as error:
        raise UsageError(f"{path}: {error.sentence}", error.hint) from None


def known(key: str) -> str:
    """Return the name of a setting. Raises UsageError for any other."""
    if key not in DEFAULTS:
        near = get_close_matches(key, DEFAULTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(DEFAULTS)}"
        raise UsageError(f"there is no setting {key}", hint)
    return key


def kind_of(key: str) -> Any:
    """Return the type of a setting's option: int, float, str, list[str] or a Literal."""
    return get_args(get_args(option_types()[key])[0])[0]


def checked(key: str, value: Any) -> Any:
    """Return a value if the option of a setting takes it; a whole number may be a float.

    Raises UsageError.
    """
    kind, option = kind_of(known(key)), get_args(option_types()[key])[1]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{key} is one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if get_origin(kind) is list:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise UsageError(f"{key} is a list of strings, not {value!r}")
        if "" in value:
            raise UsageError(f"{key} wants strings that are not empty")
        refuse_surrogates(key, "".join(value))
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not isfinite(value)):
        raise UsageError(f"{key} is {KINDS[kind]}, not {value!r}")
    if kind is str:
        refuse_surrogates(key, value)
        return value
    if option.min is not None and value < option.min:
        raise UsageError(f"{key} must be at least {option.min:g}, not {value}")
    if option.max is not None and value > option.max:
        raise UsageError(f"{key} must be at most {option.max:g}, not {value}")
    return value


def refuse_surrogates(key: str, text: str) -> None:
    """Raise UsageError for what no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{key} holds bytes that are no characters") from None


def parsed(key: str, text: str) -> Any:
    """Read a setting from what a person typed; "none" is a number that is not given."""
    kind = kind_of(known(key))
    if DEFAULTS[key] is None and text == "none":
        return None
    if get_origin(kind) is list:
        return checked(key, [text] if text else [])
    if kind in (int, float):
        try:
            return checked(key, kind(text))
        except ValueError:
            raise UsageError(f"{key} is {KINDS[kind]}, not {text!r}") from None
    return checked(key, text)
