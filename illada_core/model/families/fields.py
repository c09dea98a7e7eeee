"""Fields of a config.json as values of known types. No torch."""

from typing import Any

from illada_core.decoding import Count, shaped


def size(facts: dict[str, Any], name: str, default: int | None = None) -> int:
    """Return a size that a file gives; zero and null leave it to the default, if there is one.

    Raises KeyError where neither gives it, ValueError for what is no whole number.
    """
    if default is not None and facts.get(name) in (None, 0):
        return default
    return shaped(facts[name], Count, name)


def number(facts: dict[str, Any], name: str) -> float:
    """Return a number that a file gives. Raises KeyError or ValueError."""
    return shaped(facts[name], float, name)


def optional_number(facts: dict[str, Any], name: str) -> float | None:
    """Return a number that a file may leave out. Raises ValueError for another."""
    return shaped(facts.get(name), float | None, name)


def flag(facts: dict[str, Any], name: str, default: bool) -> bool:
    """Return what a file may leave out of what is true or false. Raises ValueError."""
    given = shaped(facts.get(name), bool | None, name)
    return default if given is None else given


def special_ids(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the special ids under our names; of several eos ids the first. Raises ValueError."""
    ids = {}
    for ours in ("bos", "pad", "eos", "mask"):
        name = f"{ours}_token_id"
        value = shaped(facts.get(name), int | list[int] | None, name)
        ids[f"{ours}_id"] = next(iter(value), None) if isinstance(value, list) else value
    return ids
