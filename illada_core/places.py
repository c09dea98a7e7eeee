"""What a person names as a place: a local path, or a URL, which has a folder in the cache.

Files at a URL are worked on in that folder, so all other code knows paths alone: `path_of` gives
the folder, `url_of` the URL again, and nothing is kept in between. What is fetched into it, or
delivered from it, is the business of others; here are names only.
"""

from __future__ import annotations

import os
import re
from functools import partial
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


def outbox_root() -> Path:
    """Return the folder below which each URL has another: for what is made to be put there."""
    return cache_root() / "outbox"


def path_of(named: str | Path) -> Path:
    """Return the path that a text names; of a URL its folder in the cache."""
    text = str(named)
    if not is_url(text):
        return Path(named)
    scheme, _, rest = text.partition("://")
    parts = rest.removesuffix("/").split("/")
    return urls_root() / scheme.lower() / "/".join(SPECIAL.get(p, quote(p, "")) for p in parts)


def outbox_of(folder: Path) -> Path:
    """Return where the files are made that are to be at the URL of a folder."""
    return outbox_root() / folder.relative_to(urls_root())


def url_of(path: Path) -> str | None:
    """Return the URL whose folder, or a file in it, a path is; None for all other paths."""
    return url_below(urls_root(), path)


def url_below(root: Path, path: Path) -> str | None:
    """Return the URL that has a folder, or a file in it, below a root."""
    if not path.is_relative_to(root) or len(path.relative_to(root).parts) < 2:
        return None
    scheme, *parts = path.relative_to(root).parts
    return f"{scheme}://" + "/".join(unquote(part.removesuffix("%")) for part in parts)


def told(path: Path) -> str:
    """Return how a path is told to a person: a URL by its own name."""
    return url_of(path) or str(path)


def with_urls(sentence: str) -> str:
    """Return a sentence in which URLs stand in the place of their folders in the cache."""
    for root in (urls_root(), outbox_root()):
        if str(root) in sentence:
            named = re.compile(rf"{re.escape(str(root))}(?:/{PART})+")
            sentence = named.sub(partial(named_url, root), sentence)
    return sentence


def named_url(root: Path, found: re.Match[str]) -> str:
    """Return the URL of a path that was found, the path itself if it has none."""
    return url_below(root, Path(found[0])) or found[0]
