"""What a request may ask of a generation: each setting stands here once.

Options, preset files, `/set` and keyword arguments are read from the fields of `Settings`: their
types, limits, defaults and words of help. What belongs to a checkpoint is in rules.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from illada_core.errors import UsageError

LENGTH = "Length"
CHOICE = "Choice of tokens"
COMMITS = "Order of commits"
GUIDANCE = "Model"
CACHE = "Cache"

KINDS = {int: "a whole number", float: "a number", str: "a string"}
# Beyond it logits of any half precision are no numbers any more.
MOST_GUIDANCE, MOST_BOOST = 100, 1000
# At most one of them decides what a step commits beside its quota.
COMMIT_RULES = ("threshold", "factor", "entropy_bound")
# How rarely, and around what, a cache computes.
CACHE_SETTINGS = ("refresh_every", "refresh_after", "vicinity")


@dataclass(frozen=True)
class Setting:
    """What is said of a setting: in help texts, under which heading, and the limits of its value.

    `default` says what holds where none is given, if the field's own default does not say it;
    `flag` names the option where the setting's name would not do.
    """

    help: str
    heading: str
    default: str | None = None
    least: float | None = None
    most: float | None = None
    flag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to generate. Raises UsageError for a value that cannot be, or two commit rules at once.

    None leaves a number to the checkpoint, or a rule out.
    """

    canvas: Annotated[
        Literal["variable", "fixed"],
        Setting("Append blocks of masks until the text ends, or begin with all masks", LENGTH),
    ] = "variable"
    max_new_tokens: Annotated[int, Setting("Most new tokens", LENGTH, least=1)] = 1024
    block_length: Annotated[
        int | None, Setting("Positions filled together", LENGTH, "the model's, else 32", least=1)
    ] = None
    steps_per_block: Annotated[
        int | None, Setting("Most steps a block may take", LENGTH, "one for each token", least=1)
    ] = None
    stop: Annotated[tuple[str, ...], Setting("A string that ends a text; repeatable", LENGTH)] = ()
    stop_ids: Annotated[
        tuple[int, ...],
        Setting("An id that ends a text; repeatable", LENGTH, flag="--stop-id"),
    ] = ()
    temperature: Annotated[
        float, Setting("Of the draw; 0 takes the likeliest token", CHOICE, least=0)
    ] = 0.0
    top_p: Annotated[
        float,
        Setting("Draw only from this share of the probability", CHOICE, least=0, most=1),
    ] = 1.0
    top_k: Annotated[
        int | None,
        Setting("Draw only from the k likeliest", CHOICE, "all", least=1),
    ] = None
    seed: Annotated[int, Setting("Seed of every random choice", CHOICE, least=0)] = 0
    cfg: Annotated[
        float, Setting("Classifier-free guidance", GUIDANCE, "0, none", least=0, most=MOST_GUIDANCE)
    ] = 0.0
    eos_guard: Annotated[
        Literal["none", "logits", "confidence"],
        Setting(
            "Never choose what ends a text (logits), or commit it last (confidence)",
            CHOICE,
        ),
    ] = "none"
    end_thinking: Annotated[str, Setting("The text that ends thinking", CHOICE)] = "</think>"
    end_thinking_boost: Annotated[
        float,
        Setting(
            "Most that is added to its logit as the text grows", CHOICE, least=0, most=MOST_BOOST
        ),
    ] = 0.0
    end_thinking_power: Annotated[float, Setting("How late the boost grows", CHOICE, least=0)] = 2.0
    remasking: Annotated[
        Literal["low-confidence", "random", "margin", "entropy"],
        Setting("What decides which tokens stay masked", COMMITS),
    ] = "low-confidence"
    confidence_from: Annotated[
        Literal["raw", "tempered"],
        Setting(
            "Be sure by the model's distribution, or by that of the draw (T, top-p, top-k)",
            COMMITS,
        ),
    ] = "raw"
    alg_temp: Annotated[
        float,
        Setting(
            "Draw the order with this temperature of the confidence; 0 takes the surest",
            COMMITS,
            least=0,
        ),
    ] = 0.0
    schedule: Annotated[
        Literal["even", "dream"],
        Setting("Spread a block's tokens over its steps evenly, or as Dream does", COMMITS),
    ] = "even"
    threshold: Annotated[
        float | None,
        Setting(
            "Commit also all tokens at least this probable, such as 0.9", COMMITS, most=1, least=0
        ),
    ] = None
    factor: Annotated[
        float | None,
        Setting(
            "Commit also the n likeliest while (n + 1)(1 - p) is below this, such as 1",
            COMMITS,
            least=0,
        ),
    ] = None
    entropy_bound: Annotated[
        float | None,
        Setting(
            "Commit also the surest while their joint entropy is at most this, such as 0.1",
            COMMITS,
            least=0,
        ),
    ] = None

    cache: Annotated[
        Literal["none", "block"],
        Setting(
            "Compute all positions at each step, or at most steps those of the block: "
            "approximate, and faster behind a long prompt",
            CACHE,
        ),
    ] = "none"
    refresh_every: Annotated[
        int | None,
        Setting("Compute all positions at every n-th call too", CACHE, "where blocks begin", 1),
    ] = None
    refresh_after: Annotated[
        int | None,
        Setting(
            "Compute all positions after n committed tokens too", CACHE, "where blocks begin", 1
        ),
    ] = None
    vicinity: Annotated[
        int, Setting("Compute n positions on each side of the block too", CACHE, least=0)
    ] = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, check_setting(name, value))
        refuse_two_rules([name for name in COMMIT_RULES if vars(self)[name] is not None])
        if self.top_p == 0:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p}")

    @property
    def grows(self) -> bool:
        """Whether masks are appended block by block."""
        return self.canvas == "variable"

    @property
    def keeps(self) -> bool:
        """Whether keys and values are kept from step to step."""
        return self.cache != "none"

    @property
    def commit_rule(self) -> str | None:
        """The name of the rule that commits beside the quota, if there is one."""
        return next((name for name in COMMIT_RULES if vars(self)[name] is not None), None)


@cache
def described_settings() -> dict[str, tuple[Any, Setting]]:
    """Return the type of each setting, without None, and what is said of it, by its name."""
    found = {}
    for name, annotation in get_type_hints(Settings, include_extras=True).items():
        kind, described = get_args(annotation)
        kinds = [each for each in get_args(kind) if each is not type(None)]
        is_optional = len(kinds) < len(get_args(kind)) and get_origin(kind) is not Literal
        found[name] = (kinds[0] if is_optional else kind, described)
    return found


def known_setting(name: str) -> str:
    """Return the name of a setting. Raises UsageError for any other."""
    names = [field.name for field in fields(Settings)]
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
        raise UsageError(f"there is no setting {name}", hint)
    return name


def merge_settings(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, changed: a new commit rule takes the place of the old one."""
    changes = {known_setting(name): value for name, value in changes.items()}
    if any(changes.get(rule) is not None for rule in COMMIT_RULES):
        base = {name: value for name, value in base.items() if name not in COMMIT_RULES}
    return {**base, **changes}


def change_settings(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with some of them changed. Raises UsageError for any that cannot be."""
    return Settings(**merge_settings(vars(settings), changes)) if changes else settings


def refuse_two_rules(names: list[str]) -> None:
    """Raise UsageError where two commit rules are asked for."""
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} are two commit rules, and only one can decide")


def check_setting(name: str, value: Any) -> Any:
    """Return a value as a setting holds it: a list becomes a tuple, a whole number may be a float.

    Raises UsageError for a value of another type or outside the limits.
    """
    kind, described = described_settings()[known_setting(name)]
    if value is None and vars(Settings)[name] is None:
        return None
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{name} is one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if get_origin(kind) is tuple:
        return check_list(name, value, get_args(kind)[0])
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not isfinite(value)):
        raise UsageError(f"{name} is {KINDS[kind]}, not {value!r}")
    if kind is str:
        refuse_surrogates(name, value)
        return value
    if described.least is not None and value < described.least:
        raise UsageError(f"{name} must be at least {described.least:g}, not {value}")
    if described.most is not None and value > described.most:
        raise UsageError(f"{name} must be at most {described.most:g}, not {value}")
    return value


def check_list(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    """Return a list setting as a tuple. Raises UsageError."""
    if not isinstance(value, list | tuple) or any(type(item) is not kind for item in value):
        words = {str: "strings", int: "whole numbers"}[kind]
        raise UsageError(f"{name} is a list of {words}, not {value!r}")
    if "" in value:
        raise UsageError(f"{name} wants strings that are not empty")
    if kind is str:
        refuse_surrogates(name, "".join(value))
    return tuple(value)


def refuse_surrogates(name: str, text: str) -> None:
    """Raise UsageError for what no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name} holds bytes that are no characters") from None


def parse_setting(name: str, text: str) -> Any:
    """Read a setting from what a person typed; "none" is a number that is not given."""
    kind, _ = described_settings()[known_setting(name)]
    if vars(Settings)[name] is None and text == "none":
        return None
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return check_setting(name, (parse_number(name, text, item),) if text else ())
    return check_setting(name, parse_number(name, text, kind))


def parse_number(name: str, text: str, kind: Any) -> Any:
    """Return a typed number as one; text stays as it is."""
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{name} is {KINDS[kind]}, not {text!r}") from None


DEFAULTS = Settings()
