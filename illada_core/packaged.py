"""Files that come with illada and are no code: recipes, presets, tasks, documentation. No torch."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from illada_core.errors import UsageError

PACKAGE = Path(__file__).parent


def packaged(folder: str, suffix: str = ".toml") -> dict[str, Path]:
    """Return the files of a folder by their names without suffix.

    A wheel has the folder within the package, a checkout beside it.
    """
    places = (PACKAGE / folder, PACKAGE.parent / folder)
    found = next((place for place in places if place.is_dir()), places[0])
    return {path.stem: path for path in sorted(found.glob(f"*{suffix}"))}


def unknown(noun: str, wanted: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not among those known, with the nearest one."""
    names = list(known)
    near = get_close_matches(wanted, names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"there is no {noun} {wanted}", f"{meant}known: {', '.join(names)}")
