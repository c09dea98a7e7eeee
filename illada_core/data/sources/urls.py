"""Inputs at URLs: listed in the order, and under the names, that their copies here would have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from illada_core import remote
from illada_core.data.sources.listing import Source, Wanted, is_chosen, kind_of
from illada_core.errors import DataError
from illada_core.remote import RemoteFile


def list_url(
    url: str, alone: bool, wanted: Wanted, globs: Sequence[str], exclude: Collection[str]
) -> Iterator[Source]:
    """Yield the sources at a URL, as `list_argument` does those of a path.

    `exclude` holds the URLs of files and folders that are no input.
    """
    found = remote.list_files(url)
    if not found:
        raise DataError(f"no such file or folder: {url}")
    folder = url.rstrip("/").rpartition("/")[2]
    prefix = "" if alone else folder + "/"
    for relative, file in found.items():
        parts = relative.split("/")
        if not relative:
            yield remote_source(folder, file, wanted)
        elif not any(part.startswith(".") for part in parts) and is_chosen(relative, globs):
            above = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
            if exclude and any(f"{url.rstrip('/')}/{each}" in exclude for each in above):
                continue
            yield remote_source(prefix + relative, file, wanted)


def remote_source(name: str, file: RemoteFile, wanted: Wanted) -> Source:
    """Describe one file at a URL. DataError where the server does not say its size."""
    if file.bytes is None:
        raise DataError(f"nobody knows the size of {file.url}", "download it, and name the copy")
    layout, compression = kind_of(file.url, wanted)
    return Source(name, file.url, layout, compression, file.bytes, modified=file.modified)
