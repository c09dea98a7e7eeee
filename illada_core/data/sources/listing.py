"""Where text comes from: files, folders, globs, standard input, hub datasets, in a fixed order.

Only names are looked at here, and the first bytes of `.json` files; others open what is listed, and
urls.py lists what is at URLs.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from illada_core.errors import DataError, UsageError
from illada_core.places import is_url, url_of

STDIN = "-"
HUB_PREFIX = "hf:"
UTF8 = "utf-8"
Layout = Literal["text", "lines", "jsonl", "chat", "csv", "parquet", "arrow", "hub"]
Wanted = Literal["auto", "text", "lines", "jsonl", "chat"]
LAYOUTS: dict[str, Layout] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Source:
    """One input: `name` goes into the dataset, `path` is what to open, `bytes` its size on disk.

    A stream (standard input, a named pipe, a hub dataset) has no size, and is read once. Its text
    is in `encoding`, a name that Python knows. A path may be a URL; then `modified` says when the
    file was written, in seconds since 1970, if its store knows.
    """

    name: str
    path: str
    layout: Layout
    compression: str = ""
    bytes: int = 0
    is_stream: bool = False
    encoding: str = UTF8
    modified: float | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it lies at a URL."""
        return is_url(self.path)


def list_sources(
    inputs: Sequence[str],
    wanted: Wanted = "auto",
    globs: Sequence[str] = (),
    exclude: Collection[Path] = (),
) -> list[Source]:
    """List the files that `inputs` name: in the order given, and sorted within a folder.

    `globs` choose among the files of folders, by name or, with a slash, by path within the folder;
    those that begin with `!` leave files out. Hidden files are passed over. `exclude` holds
    resolved paths of files and folders that are no input (an output inside its own corpus), of
    those at URLs the places.
    DataError if something is missing or nothing is left, UsageError if a file comes twice.
    """
    sources: list[Source] = []
    for given in inputs:
        alone = len(inputs) == 1
        for argument in expand(given):
            sources.extend(list_argument(argument, alone, wanted, globs, exclude))
    refuse_repeats(sources)
    if not sources:
        among = f" with a name like {' or '.join(globs)}" if globs else ""
        raise DataError(
            f"no input files{among} in {' '.join(inputs)}",
            "hidden files are passed over; name a file to take it anyway",
        )
    return sources


def list_argument(
    argument: str, alone: bool, wanted: Wanted, globs: Sequence[str], exclude: Collection[Path]
) -> Iterator[Source]:
    """Yield the sources of one argument; `alone` leaves a folder's name out of its files' names."""
    if argument == STDIN:
        yield Source("-", STDIN, "text" if wanted == "auto" else wanted, is_stream=True)
    elif is_url(argument):
        # It loads fsspec, and most inputs are here.
        from illada_core.data.sources.urls import list_url

        urls = {url for path in exclude if (url := url_of(path))}
        yield from list_url(argument, alone, wanted, globs, urls)
    elif argument.startswith(HUB_PREFIX):
        yield Source(argument, argument, "hub", is_stream=True)
    elif not os.path.lexists(argument):
        raise DataError(f"no such file or folder: {argument}")
    elif os.path.isdir(argument):
        folder = os.path.normpath(argument)
        prefix = "" if alone else modest_name(folder) + "/"
        start = len(folder.rstrip("/")) + 1
        for relative in sorted(path[start:] for path in walk(folder, exclude)):
            if is_chosen(relative, globs):
                path = os.path.join(folder, relative)
                yield file_source(prefix + relative, path, wanted)
    else:
        yield file_source(modest_name(argument), argument, wanted)


def file_source(name: str, path: str, wanted: Wanted) -> Source:
    """Describe one file."""
    layout, compression = kind_of(path, wanted)
    # A name in an odd encoding must not keep the manifest from being UTF-8.
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    try:
        size = os.stat(path).st_size
    except OSError:
        size = 0  # reading it will tell what is wrong
    is_stream = not os.path.isfile(path) and os.path.exists(path)
    return Source(name, path, layout, compression, size, is_stream)


def kind_of(path: str, wanted: Wanted) -> tuple[Layout, str]:
    """Return layout and compression of a file by its suffixes, of `.json` by how it begins.

    `wanted` overrides what they say of plain text.
    """
    plain, suffix = os.path.splitext(path)
    compression = suffix.lower() if suffix.lower() in COMPRESSIONS else ""
    if not compression:
        plain = path
    layout = LAYOUTS.get(os.path.splitext(plain)[1].lower(), "text")
    if wanted != "auto" and layout not in ("parquet", "arrow"):
        return wanted, compression
    if plain.lower().endswith(".json") and (is_url(path) or os.path.isfile(path)):
        # What opens files knows this one.
        from illada_core.data.sources.beginnings import is_records

        layout = "jsonl" if is_records(path, compression) else "text"
    return layout, compression


def walk(folder: str, exclude: Collection[Path]) -> Iterator[str]:
    """Yield the files below a folder, links followed but never in a circle."""
    names = {path.name for path in exclude}
    waiting: list[tuple[str, frozenset[str]]] = [(folder, frozenset())]
    while waiting:
        here, ancestors = waiting.pop()
        real = os.path.realpath(here)
        if real in ancestors:
            continue
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.name in names and Path(os.path.realpath(entry.path)) in exclude:
                    continue
                if is_folder(entry):
                    waiting.append((entry.path, ancestors | {real}))
                elif entry.is_symlink() or entry.is_file():
                    yield entry.path


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether a name stands for a folder; a link to itself stands for nothing."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # reading it will tell what is wrong


def expand(argument: str) -> list[str]:
    """Expand a glob that the shell left alone; anything else stands for itself."""
    if is_url(argument) and glob.has_magic(argument):
        return matching_urls(argument)
    special = argument == STDIN or is_url(argument) or argument.startswith(HUB_PREFIX)
    if special or os.path.lexists(argument) or not glob.has_magic(argument):
        return [argument]
    found = sorted(glob.glob(argument, recursive=True))
    if not found:
        raise DataError(f"nothing matches {argument}")
    return [path for path in found if not os.path.isdir(path)] or found


def matching_urls(pattern: str) -> list[str]:
    """Expand a glob among URLs, unless it is the very name of something."""
    from illada_core import remote  # it loads fsspec, and most inputs are here

    found = remote.match(pattern) or ([pattern] if remote.list_files(pattern) else [])
    if not found:
        raise DataError(f"nothing matches {pattern}")
    return found


def is_chosen(relative: str, globs: Sequence[str]) -> bool:
    """Tell whether a path fits some pattern, if there is any, and none of those after `!`."""
    wanted = [pattern for pattern in globs if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in globs if pattern.startswith("!")]
    return (not wanted or any(fits(relative, pattern) for pattern in wanted)) and not any(
        fits(relative, pattern) for pattern in unwanted
    )


def fits(relative: str, pattern: str) -> bool:
    """Tell whether a path within a folder fits a pattern; `*` also crosses slashes."""
    if "/" in pattern:
        return fnmatch(relative, pattern) or fnmatch("/" + relative, pattern)
    return fnmatch(relative.rsplit("/", 1)[-1], pattern)


def modest_name(argument: str) -> str:
    """Return a name for an argument that says nothing of where on this machine it lies."""
    path = os.path.normpath(argument)
    if os.path.isabs(path) or path.startswith("."):
        return os.path.basename(os.path.abspath(path))
    return path


def refuse_repeats(sources: Sequence[Source]) -> None:
    """Raise UsageError if two inputs name the same file: its text would count twice."""
    seen: set[str] = set()
    for source in sources:
        is_path = source.layout != "hub" and not source.is_remote
        key = os.path.abspath(source.path) if is_path else source.path
        if key in seen:
            raise UsageError(f"the same input is named twice: {source.path}")
        seen.add(key)
