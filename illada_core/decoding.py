"""Bytes that anyone may have written, to values whose types are known: JSON, JSON Lines, TOML.

No other module calls `json.loads` or `tomllib`. All that is wrong is a ValueError in one line; who
read the file puts its name before it (`files`).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import chain
from math import isfinite
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

# A range in the annotation of a whole number is the range it must lie in; without one it is INT64.
INT64 = range(-(2**63), 2**63)
Count = Annotated[int, range(2**63)]
MOST_IDS = 1 << 24  # a stored token has three bytes
TokenId = Annotated[int, range(MOST_IDS)]

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    dict: "an object",
}
TOO_DEEP = "it is nested too deep"
MOST_LEVELS = 100
MOST_TOML = 1 << 16  # characters; a recipe with every key explained has 5,000
SCANNER = json.JSONDecoder()
SHOWN = 40  # characters of a wrong value
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def decode_json(data: bytes | str, may_hold_halves: bool = False) -> Any:
    """Return the value that JSON holds. Raises ValueError for all that another reader may refuse.

    That is NaN, numbers beyond float64 or of thousands of digits, a name that stands twice in an
    object, nesting that is too deep, and halves of surrogate pairs unless it `may_hold_halves`.
    """
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
    value = decoded(
        text,
        parse_constant=refuse_constant,
        parse_float=finite_number,
        object_pairs_hook=unique_names,
    )
    if not may_hold_halves and (text is data or ESCAPED_SURROGATE.search(text)):
        refuse_surrogates(value)
    return value


def decode_record(text: str) -> Any:
    """Return the value of a line that is data: NaN and names that stand twice pass. ValueError.

    Tables are often written so, and what is asked for in them need not be what is odd.
    """
    try:
        return decoded(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from None


class IncompleteJson(ValueError):
    """Text that is no JSON, unless more of it follows."""


def end_of_value(text: str, at: int) -> int:
    """Return where the JSON ends that begins at a place of a text.

    Raises IncompleteJson, or ValueError for what no further text can mend.
    """
    try:
        return SCANNER.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise IncompleteJson(str(error)) from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def decode_toml(text: str) -> dict[str, Any]:
    """Return the tables that TOML holds. Raises ValueError."""
    # tomllib needs memory by the square of a dotted key's length: 100 KB of it ask for 30 GB.
    if len(text) > MOST_TOML or any(line.count(".") > MOST_LEVELS for line in text.splitlines()):
        raise ValueError(f"it is over {MOST_TOML:,} characters, or a key has too many dots")
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    refuse_depth(value)
    return value


def decoded(text: str, **hooks: Any) -> Any:
    """Return the value of JSON that is not nested too deep for whatever walks through it."""
    try:
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        # Python says of long numbers what a programmer could change.
        raise ValueError(str(error).partition(":")[0]) from None
    if text.count("[") + text.count("{") > MOST_LEVELS:
        refuse_depth(value)
    return value


def refuse_depth(value: Any) -> None:
    """Raise ValueError where lists and objects lie in each other more than MOST_LEVELS deep."""
    level: list[Any] = [[value]]
    for _ in range(MOST_LEVELS + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for each in chain.from_iterable(inner) if isinstance(each, list | dict)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def refuse_constant(name: str) -> None:
    """Refuse NaN and infinities, which Python would write back and nobody else reads."""
    raise ValueError(name)


def finite_number(text: str) -> float:
    """Return a number that float64 holds. Raises ValueError."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]} is out of range")
    return number


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the names and values of an object. Raises ValueError where a name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {shown(twice)} stands twice in an object")
    return found


def refuse_surrogates(value: Any) -> None:
    """Raise ValueError where a string holds half of a surrogate pair: UTF-8 has no bytes for it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None


def shaped(value: Any, kind: Any, name: str = "it") -> Any:
    """Return a decoded value as `kind`: a type, a container of types, or a dataclass.

    Known are int (also `Annotated[int, range(…)]`), float, str, bool, None, Literal, unions, list,
    tuple, dict with names, Any. A dataclass is an object with its fields and no others. Raises
    ValueError that says what of `name` is wrong.
    """
    try:
        return shape(value, kind)
    except Misfit as error:
        raise ValueError(f"{named(name, error.path)} {error}") from None


class Misfit(ValueError):
    """A value that is not as it should be; `path` are the names and places that lead to it."""

    def __init__(self, fault: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(fault)
        self.path = path


def shape(value: Any, kind: Any) -> Any:
    """Return a value as its kind. Raises Misfit."""
    if type(value) is kind:
        return within(value, INT64) if kind is int else value
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return within(shape(value, inner[0]), inner[1])
    if origin in (Union, UnionType):
        return one_of(value, inner)
    if origin is Literal and any(value == each and type(value) is type(each) for each in inner):
        return value
    if origin in (list, tuple) and isinstance(value, list):
        return listed(value, origin, inner)
    if origin is dict and isinstance(value, dict):
        return {key: part(item, inner[1], key) for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return built(value, kind)
    if kind is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    raise Misfit(f"is {shown(value)}, not {words_for(kind)}")


def part(value: Any, kind: Any, place: str | int) -> Any:
    """Return what stands at a place of a container as its kind."""
    try:
        return shape(value, kind)
    except Misfit as error:
        error.path = (place, *error.path)
        raise


def one_of(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return a value as the first kind that it fits."""
    for kind in kinds:
        try:
            return shape(value, kind)
        except Misfit as error:
            if error.path:  # the container fits: what is wrong lies in it
                raise
    raise Misfit(f"is {shown(value)}, not {' or '.join(map(words_for, kinds))}")


def within(value: int, allowed: range) -> int:
    """Return a whole number that lies in a range."""
    if value not in allowed:
        raise Misfit(f"is {shown(value)}, not between {allowed.start} and {allowed.stop - 1}")
    return value


def listed(value: list[Any], origin: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the items of a list, each as its kind; `tuple[int, str]` has two."""
    if origin is list or kinds[1:] == (...,):
        return origin(part(item, kinds[0], at) for at, item in enumerate(value))
    if len(value) != len(kinds):
        raise Misfit(f"has {len(value)} items, not {len(kinds)}")
    pairs = zip(value, kinds, strict=True)
    return tuple(part(item, kind, at) for at, (item, kind) in enumerate(pairs))


def built(value: Mapping[str, Any], kind: Any) -> Any:
    """Return the dataclass whose fields an object holds."""
    kinds = kinds_of(kind)
    if missing := [
        item.name for item in fields(kind) if is_needed(item) and item.name not in value
    ]:
        raise Misfit("is missing", (missing[0],))
    if unknown := value.keys() - kinds.keys():
        raise Misfit("is unknown", (min(unknown),))
    return kind(**{key: part(item, kinds[key], key) for key, item in value.items()})


def is_needed(item: Any) -> bool:
    """Tell whether a field has no default."""
    return item.default is MISSING and item.default_factory is MISSING


@cache
def kinds_of(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    return get_type_hints(kind, include_extras=True)


def named(name: str, path: tuple[str | int, ...]) -> str:
    """Return the name of a value that lies in another, such as `shards[0].name`."""
    for place in path:
        name += f"[{place}]" if isinstance(place, int) else f".{place[:SHOWN]}"
    return name.removeprefix("it.")


def shown(value: Any) -> str:
    """Return the beginning of a value as JSON, in one line."""
    if isinstance(value, list | dict):
        return WORDS[type(value)]
    if type(value) is int and value not in INT64:
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def words_for(kind: Any) -> str:
    """Say what a value of a kind is."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is Annotated:
        return words_for(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(map(words_for, inner))
    if origin is tuple:
        return WORDS[list]
    return WORDS.get(origin or kind, WORDS[dict])
