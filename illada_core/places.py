"""What a person names as a place: a local path, or a URL, which has a folder in the cache.

Files at a URL are worked on in that folder, so all other code knows paths alone: `path_of` gives
the folder, `url_of` the URL again, and nothing is kept in between. What is fetched into it, or
delivered from it, is the business of others; here are names only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
CACHE = "ILLADA_CACHE"
SPECIAL = {"": "%", ".": "%2E", "..": "%2E%2E"}  # parts of a URL that are no names of folders
PART = r"[\w.~%-]+"


def is_url(text: str) -> bool:
    """Tell whether a text names files by protocol: `s3://bucket/folder`."""
    return URL.match(text) is not None


def cache_root() -> Path:
    """Return where copies are kept: ILLADA_CACHE, else `illada` in the user's folder of caches."""
    given = os.environ.get(CACHE)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "illada"


def urls_root() -> Path:
    """Return the folder below which each URL has its own."""
    return cache_root() / "urls"


def path_of(named: str | Path) -> Path:
    """Return the path that a text names; of a URL its folder in the cache."""
    text = str(named)
    if not is_url(text):
        return Path(named)
    scheme, _, rest = text.partition("://")
    parts = rest.removesuffix("/").split("/")
    return urls_root() / scheme.lower() / "/".join(SPECIAL.get(p, quote(p, "")) for p in parts)


def url_of(path: Path) -> str | None:
    """Return the URL whose folder, or a file in it, a path is; None for all other paths."""
    root = urls_root()
    if not path.is_relative_to(root) or len(path.relative_to(root).parts) < 2:
        return None
    scheme, *parts = path.relative_to(root).parts
    return f"{scheme}://" + "/".join(unquote(part.removesuffix("%")) for part in parts)


def told(path: Path) -> str:
    """Return how a path is told to a person: a URL by its own name."""
    return url_of(path) or str(path)


def with_urls(sentence: str) -> str:
    """Return a sentence in which URLs stand in the place of their folders in the cache."""
    root = str(urls_root())
    if root not in sentence:
        return sentence
    return re.sub(rf"{re.escape(root)}(?:/{PART})+", lambda found: told(Path(found[0])), sentence)
