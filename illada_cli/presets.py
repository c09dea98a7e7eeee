"""Generation settings by name or file: the paper's, for each benchmark of its Appendix A."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import illada_core
from illada_core.errors import UsageError

TABLE = "generate"


def packaged_presets() -> dict[str, Path]:
    """Return the presets that come with illada, by name: in the wheel, else in the checkout."""
    package = Path(illada_core.__file__).parent
    folders = (package / "recipes" / TABLE, package.parent / "recipes" / TABLE)
    folder = next((path for path in folders if path.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_preset(wanted: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read the [generate] table of a file or a packaged preset.

    Its keys are those of `defaults`, whose types they must have. Raises UsageError.
    """
    path = Path(wanted)
    if not path.is_file():
        packaged = packaged_presets()
        if wanted not in packaged:
            near = get_close_matches(wanted, packaged, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"there is no preset {wanted}", f"{meant}known: {', '.join(packaged)}")
        path = packaged[wanted]
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    if tables.keys() != {TABLE} or not isinstance(tables[TABLE], dict):
        raise UsageError(f"{path} must hold one table, [{TABLE}]")
    return {key: checked(path, key, value, defaults) for key, value in tables[TABLE].items()}


def checked(path: Path, key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """Return a value of a known key and of the default's type; a whole number may be a float."""
    if key not in defaults:
        near = get_close_matches(key, defaults, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(defaults)}"
        raise UsageError(f"{path}: unknown key {key}", hint)
    kind = float if defaults[key] is None else type(defaults[key])
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UsageError(f"{path}: {key} must be {kind.__name__}, not {value!r}")
    return value
