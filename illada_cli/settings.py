"""The settings of a generation as options of a verb: made from what the core says of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

import typer

from illada_cli.words import Words, presets
from illada_core.inference.presets import load_preset
from illada_core.inference.settings import (
    COMMIT_RULES,
    DEFAULTS,
    LENGTH,
    Setting,
    Settings,
    check_setting,
    described_settings,
    merge_settings,
    refuse_two_rules,
)

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Settings by name (gsm8k-instruct) or TOML file.",
        rich_help_panel=LENGTH,
    ),
    Words(presets),
]


def setting_parameters() -> list[inspect.Parameter]:
    """Return what a verb takes: --preset, and an option for each setting, None if not given."""
    options = {"preset": Preset} | {
        name: option_of(name, kind, described)
        for name, (kind, described) in described_settings().items()
    }
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]


def option_of(name: str, kind: Any, described: Setting) -> Any:
    """Return the annotation of a setting's option, which is None where it is not given."""
    is_list = get_origin(kind) is tuple
    default = described.default or default_words(name)
    option = typer.Option(
        flag_of(name),
        help=described.help + (f" [default: {default}]." if default else "."),
        min=None if described.least is None else kind(described.least),
        max=None if described.most is None else kind(described.most),
        rich_help_panel=described.heading,
    )
    taken = list[get_args(kind)[0]] if is_list else kind  # type: ignore[misc]
    return Annotated[taken | None, option]


def flag_of(name: str) -> str:
    """Return how the option of a setting is spelt."""
    return described_settings()[name][1].flag or f"--{name.replace('_', '-')}"


def default_words(name: str) -> str:
    """Return the default of a setting as help texts show it, empty where there is none."""
    value = vars(DEFAULTS)[name]
    if value is None or value == ():
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def settle(asked: Mapping[str, Any]) -> Settings:
    """Return the settings: options that were given (not None), else --preset's, else defaults.

    Raises UsageError for an unknown preset, a value that cannot be, or two commit rules at once.
    """
    named = {name: value for name, value in asked.items() if value is not None}
    preset = named.pop("preset", None)
    given = {name: check_setting(name, value) for name, value in named.items()}
    refuse_two_rules([flag_of(name) for name in COMMIT_RULES if name in given])
    return Settings(**merge_settings(load_preset(preset) if preset else {}, given))
