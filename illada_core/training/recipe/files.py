"""Recipes as files: found by path or name, read strictly, changed by --set, written as TOML.

An unknown key or a wrong type is a UsageError that says what was meant. No torch.
"""

import json
from collections.abc import Collection
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from illada_core.decoding import decode_toml
from illada_core.errors import UsageError
from illada_core.files import read_toml
from illada_core.packaged import packaged
from illada_core.training.recipe.keys import Recipe, flat, may_change


def packaged_recipes() -> dict[str, Path]:
    """Return the recipes that come with illada, by name."""
    return packaged("recipes")


def find_recipe(wanted: str) -> Path:
    """Return the file of a recipe: a path if it exists, else a packaged name."""
    if Path(wanted).is_file():
        return Path(wanted)
    known = packaged_recipes()
    if wanted in known:
        return known[wanted]
    if Path(wanted).is_dir():
        raise UsageError(f"{wanted} is a folder, not a recipe")
    raise UsageError(
        f"cannot read recipe: no such file: {wanted}",
        f"packaged recipes are {', '.join(known)}{suggest(wanted, known)}",
    )


def load_recipe(path: Path, changes: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `table.key=VALUE` changes to it."""
    tables = read_toml(path)
    changed = {apply_change(tables, change) for change in changes or []}
    return recipe_from(tables, str(path), changed)


def apply_change(tables: dict[str, Any], change: str) -> str:
    """Set one key from `table.key=VALUE` and return its name; bare words are strings."""
    name, equals, text = change.partition("=")
    table, dot, item = name.strip().partition(".")
    if not (equals and dot and item):
        raise UsageError(
            f"--set wants table.key=value, not {change!r}", "for instance --set run.seed=1"
        )
    try:
        value = decode_toml(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    tables.setdefault(table, {})
    if not isinstance(tables[table], dict):
        raise UsageError(f"recipe: {table} must be a table")
    tables[table] = {**tables[table], item: value}
    return f"{table}.{item}"


def recipe_from(tables: dict[str, Any], file: str, changed: Collection[str] = ()) -> Recipe:
    """Build a recipe from TOML tables. Raises UsageError on unknown keys and wrong types.

    `changed` names the keys whose mistakes are to be blamed on --set and not on `file`.
    """
    kinds = get_type_hints(Recipe)
    for table, content in tables.items():
        if not isinstance(content, dict):
            raise UsageError(f"{file}: {table} must be a table, like [{table}]")
        for item in content or [""]:
            check_name(table, item, "--set" if f"{table}.{item}" in changed else file)
    return Recipe(
        **{
            table: table_from(table, tables.get(table, {}), kind, file, changed)
            for table, kind in kinds.items()
        }
    )


def check_name(table: str, item: str, source: str) -> None:
    """Raise UsageError unless the table, and the key in it if one is given, exist."""
    kinds = get_type_hints(Recipe)
    if table not in kinds:
        raise UsageError(f"{source}: unknown table [{table}]", hint_for(table, kinds))
    known = get_type_hints(kinds[table])
    if item and item not in known:
        raise UsageError(f"{source}: unknown key {table}.{item}", hint_for(item, known, table))


def table_from(
    table: str, content: dict[str, Any], kind: Any, file: str, changed: Collection[str]
) -> Any:
    """Build one table's dataclass from its TOML content."""
    missing = [
        f"{table}.{item.name}"
        for item in fields(kind)
        if item.default is MISSING and item.name not in content
    ]
    if missing:
        raise UsageError(f"{file}: missing {', '.join(missing)}")
    hints = get_type_hints(kind)
    formerly = {item.name: item.metadata["formerly"] for item in fields(kind)}
    values = {}
    for item, given in content.items():
        name = f"{table}.{item}"
        value = formerly[item].get(given, given) if isinstance(given, bool) else given
        values[item] = check_type(name, value, hints[item], "--set" if name in changed else file)
    return kind(**values)


def check_type(name: str, value: Any, kind: Any, source: str) -> Any:
    """Check one value's type; 1e9 is a whole number, and a whole number is a float too."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value in choices:
            return value
        wanted = "one of " + ", ".join(json.dumps(choice) for choice in choices)
        raise UsageError(
            f"{source}: {name} must be {wanted}, not {as_toml(value)}",
            hint_for(value, choices) if isinstance(value, str) else None,
        )
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind == tuple[str, ...] and isinstance(value, list):
        if all(type(item) is str for item in value):
            return tuple(value)
        raise UsageError(f"{source}: {name} must be a list of strings")
    words = {
        tuple[str, ...]: "a list of strings",
        int: "a whole number",
        float: "a number",
        str: "a string",
        bool: "true or false",
    }
    raise UsageError(f"{source}: {name} must be {words[kind]}, not {as_toml(value)}")


def hint_for(wrong: str, known: Any, table: str = "") -> str:
    """Return a hint that names the nearest known word, or all of them."""
    prefix = f"{table}." if table else ""
    nearest = get_close_matches(wrong, known, n=1)
    if nearest:
        return f"did you mean {prefix}{nearest[0]}?"
    return f"known: {', '.join(prefix + word for word in known)}"


def suggest(wrong: str, known: Any) -> str:
    nearest = get_close_matches(wrong, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML with every key explained; reading it gives the recipe back."""
    lines = []
    for table in fields(recipe):
        lines.append(f"[{table.name}]")
        for item in fields(table.type):  # type: ignore[arg-type]
            value = as_toml(getattr(getattr(recipe, table.name), item.name))
            lines.append(f"{f'{item.name} = {value}':<40}  # {item.metadata['about']}")
        lines.append("")
    return "\n".join(lines)


def as_toml(value: Any) -> str:
    """Write one value as TOML: strings and booleans are those of JSON, big counts are grouped."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if abs(value) >= 100_000 else str(value)
    return json.dumps(value, ensure_ascii=False, default=str)  # dates: never right, but told of


def differing_keys(before: Recipe, now: Recipe) -> list[str]:
    """Name the keys in which two recipes differ and that a resume may not change."""
    fixed = flat(before).keys() - may_change()
    old, new = flat(before), flat(now)
    return [name for name in old if name in fixed and old[name] != new[name]]
