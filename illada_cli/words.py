"""Words that a shell offers where an option or argument has no fixed choices.

They are read when the completion scripts are made. A word that ends with `=` is only the beginning
of a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Words:
    """Beside an option in `Annotated`: where to find what it may be given."""

    find: Callable[[], Sequence[str]]


def recipes() -> list[str]:
    """Return the names of the packaged recipes."""
    from illada_core.training.recipe.files import packaged_recipes

    return list(packaged_recipes())


def presets() -> list[str]:
    """Return the names of the packaged presets."""
    from illada_core.inference.presets import packaged_presets

    return list(packaged_presets())


def changes() -> list[str]:
    """Return what --set may begin with, and the whole where a key has a few values only."""
    from illada_core.training.recipe.keys import Recipe

    return [
        f"{table.name}.{key}={value}"
        for table in fields(Recipe)
        for key, kind in get_type_hints(table.type).items()
        for value in ("", *values_of(kind))
    ]


def values_of(kind: Any) -> Iterator[str]:
    """Yield all that a key of a recipe may be, if that is little."""
    if kind is bool:
        yield from ("true", "false")
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))


def eval_tasks() -> list[str]:
    """Return the names of the packaged tasks of `illada eval`."""
    from illada_core.benchmark.definition import packaged_benchmarks

    return list(packaged_benchmarks())


def suites() -> list[str]:
    """Return the names of the packaged presets of `illada eval`."""
    from illada_core.benchmark.suites import packaged_suites

    return packaged_suites()


def topics() -> list[str]:
    """Return the names of the pages of documentation."""
    from illada_core.packaged import packaged

    return list(packaged("docs", ".md"))
