"""Generation settings by name or file: the paper's, for each benchmark of its Appendix A."""

from __future__ import annotations

import tomllib
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


def read_preset(wanted: str) -> tuple[Path, dict[str, Any]]:
    """Return the file of a preset, packaged or a person's own, and its [generate] table.

    Raises UsageError.
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
    return path, tables[TABLE]
