"""A dataset at a URL: its small files in the URL's folder here, its shards as copies in the cache.

    CACHE/urls/s3/bucket/tokens/manifest.json tokenizer.json …
    CACHE/shards/SHA256.zst

A copy of a shard goes by its content, which is compared with the manifest when it comes. So it is
never the wrong one, whatever happens at its URL, and all processes of a machine share it. The one
used longest ago goes when copies take more room than they may.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from illada_core.data.store.shards import ShardEntry
from illada_core.errors import DataError, UsageError
from illada_core.files import (
    PARTIAL,
    awaiting_file,
    make_folder,
    move,
    partial_path,
    publish,
    write_file,
    writing_file,
)
from illada_core.places import cache_root, url_of
from illada_core.text.companions import TEMPLATE_FOLDER
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE

MANIFEST = "manifest.json"
LIMIT = "ILLADA_CACHE_GB"
USUAL_GB = 100.0
SHA256 = re.compile(r"[0-9a-f]{64}")


def pull(folder: Path) -> None:
    """Bring the small files at a URL into its folder: the manifest, and what tells the tokenizer.

    They are what they are at the URL, or gone if they are there no more; other folders stay as
    they are. Raises DataError and UsageError.
    """
    url = url_of(folder)
    if url is None:
        return
    from illada_core import remote  # it loads fsspec, and most datasets are here

    found = remote.list_files(url, is_deep=False)
    there = set(found) & {MANIFEST, TOKENIZER_FILE, *COMPANIONS}
    templates = remote.list_files(f"{url}/{TEMPLATE_FOLDER}", is_deep=False)
    there |= {f"{TEMPLATE_FOLDER}/{name}" for name in templates if name.endswith(".jinja")}
    if not there and not folder.exists():
        return
    make_folder(folder)
    with awaiting_file(folder / MANIFEST):
        for path in small_files(folder):
            if str(path.relative_to(folder)) not in there:
                path.unlink()
        for name in sorted(there):
            make_folder((folder / name).parent)
            write_file(folder / name, remote.read(f"{url}/{name}"))
            if name in found and (written := found[name].modified):
                os.utime(folder / name, (written, written))


def small_files(folder: Path) -> list[Path]:
    """Return the files in a URL's folder that `pull` has brought there."""
    named = [folder / name for name in (MANIFEST, TOKENIZER_FILE, *COMPANIONS)]
    return [*filter(Path.is_file, named), *(folder / TEMPLATE_FOLDER).glob("*.jinja")]


def sizes_at(folder: Path) -> dict[str, int | None] | None:
    """Return the sizes of the files in a folder that is that of a URL, None for any other."""
    url = url_of(folder)
    if url is None:
        return None
    from illada_core import remote

    return {name: file.bytes for name, file in remote.list_files(url, is_deep=False).items()}


@contextmanager
def copy_of(url: str, entry: ShardEntry, anew: bool = False) -> Iterator[Path]:
    """Give the copy of a shard at a URL, fetched if it is not there, or `anew`; it may go later.

    Processes that want it at once wait for the one that fetches. DataError if it is not what the
    manifest says, or cannot be had.
    """
    if not SHA256.fullmatch(entry.sha256):
        raise DataError(f"{entry.sha256!r} is said to be the sha256 of {url}")
    path = copy_path(entry)
    with awaiting_file(path):
        if anew or not path.exists():
            fetch(url, entry, path)
            make_room(path)
        os.utime(path)
        yield path


def keep_copy(path: Path, entry: ShardEntry) -> None:
    """Make a shard that was made here, and is at its URL now, the copy of that."""
    copy = copy_path(entry)
    with awaiting_file(copy):
        move(path, copy)
        make_room(copy)


def copy_path(entry: ShardEntry) -> Path:
    """Return where the copy of a shard lies."""
    path = cache_root() / "shards" / f"{entry.sha256}.zst"
    make_folder(path.parent)
    return path


def fetch(url: str, entry: ShardEntry, path: Path) -> None:
    """Write what is at a URL to a file that is complete, and what the manifest says, or absent."""
    from illada_core import remote

    try:
        with open(partial_path(path), "wb") as file:
            if remote.download(url, file) != entry.sha256:
                raise DataError(
                    f"damaged shard: {url}: its sha256 is not the one in {MANIFEST}",
                    "put it there again from a copy, or make the dataset again",
                )
            publish(file, path)
    finally:
        partial_path(path).unlink(missing_ok=True)


def make_room(kept: Path) -> None:
    """Delete the copies used longest ago, but for one, until all take no more than they may.

    One that is about to be opened stays; one that is open can be read on.
    """
    for path in kept.parent.glob(f"*{PARTIAL}"):  # of a process that was killed
        if path != partial_path(kept):
            delete_unless_busy(path.with_name(path.name.removesuffix(PARTIAL)), path)
    found = sorted((path.stat().st_mtime_ns, path) for path in kept.parent.glob("*.zst"))
    sizes = {path: path.stat().st_size for _, path in found}
    for _, path in found:
        if sum(sizes.values()) <= limit_bytes():
            return
        if path != kept:
            delete_unless_busy(path, path)
            del sizes[path]


def delete_unless_busy(copy: Path, path: Path) -> None:
    """Delete a file of a copy, unless another process has it in hand."""
    with suppress(DataError), writing_file(copy):
        path.unlink(missing_ok=True)


def limit_bytes() -> float:
    """Return how much room copies of shards may take: ILLADA_CACHE_GB, else 100 GB."""
    given = os.environ.get(LIMIT)
    try:
        limit = float(given) if given else USUAL_GB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise UsageError(f"{LIMIT} wants a number of gigabytes, not {given!r}")
    return limit * 1e9
