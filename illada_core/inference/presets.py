"""Generation settings by name or file: the paper's, for each benchmark of its Appendix A."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from illada_core.errors import UsageError
from illada_core.files import read_toml
from illada_core.inference.settings import COMMIT_RULES, check_setting, refuse_two_rules
from illada_core.packaged import packaged, unknown

TABLE = "generate"


def packaged_presets() -> dict[str, Path]:
    """Return the presets that come with illada, by name."""
    return packaged(f"recipes/{TABLE}")


def load_preset(wanted: str) -> dict[str, Any]:
    """Return the settings of a preset, packaged or a person's own file.

    Raises UsageError for an unknown one, and for any setting in it that cannot be.
    """
    path = Path(wanted)
    if not path.is_file():
        known = packaged_presets()
        if wanted not in known:
            raise unknown("preset", wanted, known)
        path = known[wanted]
    table = read_table(path)
    try:
        refuse_two_rules([name for name in COMMIT_RULES if name in table])
        return {name: check_setting(name, value) for name, value in table.items()}
    except UsageError as error:
        raise UsageError(f"{path}: {error.sentence}", error.hint) from None


def read_table(path: Path) -> Mapping[str, Any]:
    """Return the [generate] table of a file. Raises UsageError."""
    tables = read_toml(path)
    table = tables.get(TABLE)
    if tables.keys() != {TABLE} or not isinstance(table, dict):
        raise UsageError(f"{path} must hold one table, [{TABLE}]")
    return table
