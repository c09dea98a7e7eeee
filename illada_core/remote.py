"""Files at URLs, through fsspec, which this file alone knows: listed, read, written, deleted.

What fails is tried again after a wait, a few times. What goes wrong for good is one sentence, with
the URL in it: stores and their libraries raise what they like.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from illada_core.errors import DataError, IlladaError, UsageError, first_line

WAITS_S = (0.5, 1.0, 2.0, 4.0)  # between two tries
BLOCK_BYTES = 8 << 20
UNFINISHED = ".partial"  # ends the name of a file that is not whole yet
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # of our own package
# Under which names stores tell what changes with the content of a file, and when it was written.
VERSIONS = ("ETag", "etag", "generation", "version_id", "blob_id")
TIMES = ("LastModified", "mtime", "updated", "last_modified", "created")
GO_ON_HINT = "run the same command again when the connection is back: finished work is kept"
RIGHTS_HINT = "give this machine credentials that allow it, as the store's library reads them"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a URL: its size in bytes, what changes with its content, and when it was written.

    `bytes` is None where a server does not say it, `modified` (seconds since 1970) likewise.
    """

    url: str
    bytes: int | None
    version: str
    modified: float | None


def list_files(url: str, is_deep: bool = True) -> dict[str, RemoteFile]:
    """Return the files below a URL by their paths within it; a file by an empty one.

    Without `is_deep` those of folders in it are left out. Nothing where there is nothing. Raises
    DataError and UsageError.
    """

    def find() -> dict[str, dict[str, Any]]:
        files, root = filesystem(url)
        files.invalidate_cache(root)
        try:
            if is_page(url):
                return {"": files.info(root)}
            found = walked(files, root) if is_deep else files.ls(root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        shown = [facts for facts in found if facts["type"] == "file"]
        return {facts["name"].removeprefix(root).lstrip("/"): facts for facts in shown}

    base = url.rstrip("/")
    return {
        name: described(f"{base}/{name}" if name else base, facts)
        for name, facts in sorted(trying("list", url, find).items())
    }


def is_page(url: str) -> bool:
    """Tell whether a URL can only be a file: that of a web server, but for a slash at its end."""
    return url.startswith(("http://", "https://")) and not url.endswith("/")


def walked(files: Any, root: str) -> list[dict[str, Any]]:
    """Return what a store says of all files below a path.

    The `find` of fsspec itself passes over folders that cannot be listed; that of a store does
    not, and is faster.
    """
    kinds = [kind for kind in type(files).__mro__ if not kind.__module__.startswith("fsspec")]
    if any("find" in vars(kind) or "_find" in vars(kind) for kind in kinds):
        return list(files.find(root, detail=True).values())
    found, waiting = [], [root]
    while waiting:
        here = waiting.pop()
        for facts in files.ls(here, detail=True):
            if facts["type"] != "directory":
                found.append(facts)
            elif facts["name"].rstrip("/") != here:
                waiting.append(facts["name"].rstrip("/"))
    return found


def find_file(url: str) -> RemoteFile | None:
    """Return what is known of the file at a URL, None if there is none."""
    return list_files(url, is_deep=False).get("")


def match(pattern: str) -> list[str]:
    """Return the URLs that a glob matches, sorted: files, and folders where only those match.

    Hidden ones are passed over.
    """

    def find() -> list[tuple[str, bool]]:
        files, path = filesystem(pattern)
        files.invalidate_cache()
        found = files.glob(path, detail=True).items()
        return [(files.unstrip_protocol(at), each["type"] == "directory") for at, each in found]

    found = trying("list", pattern, find)
    shown = [each for each in found if not each[0].rstrip("/").rpartition("/")[2].startswith(".")]
    return sorted([url for url, is_folder in shown if not is_folder] or [url for url, _ in shown])


class RemoteReader(io.RawIOBase):
    """A file at a URL, read in one direction; it goes on where a connection broke.

    Raises DataError if that does not help, or if the file changed meanwhile.
    """

    def __init__(self, url: str) -> None:
        self.url, self.at = url, 0
        self._found: RemoteFile | None = None
        self._file: Any = None
        trying("read", url, self._open)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = trying("read", self.url, lambda: self._next(len(buffer)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _next(self, size: int) -> bytes:
        try:
            if self._file is None:
                self._open()
            data: bytes = self._file.read(size)
            promised = self._found.bytes if self._found else None
            if not data and promised is not None and self.at < promised:
                raise ConnectionError(f"it ended after {self.at:,} of {promised:,} bytes")
            return data
        except Exception:
            self._drop()
            raise

    def _open(self) -> None:
        files, path = filesystem(self.url)
        files.invalidate_cache(path)
        found = described(self.url, files.info(path))
        if self._found not in (None, found):
            raise DataError(f"{self.url} changed while it was read", "run the same command again")
        self._found = found
        self._file = files.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
        if self._file.seekable():
            self._file.seek(self.at)
            return
        skipped = 0  # a server that gives no parts of a file
        while skipped < self.at and (data := self._file.read(min(BLOCK_BYTES, self.at - skipped))):
            skipped += len(data)

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def read(url: str) -> bytes:
    """Return all that a small file holds. Raises DataError and UsageError."""
    with RemoteReader(url) as file:
        parts = []
        while data := file.read(BLOCK_BYTES):
            parts.append(data)
    return b"".join(parts)


def download(url: str, file: BinaryIO) -> str:
    """Write what a URL holds to a file, and return its sha256. Raises DataError and UsageError."""
    sha256 = hashlib.sha256()
    with RemoteReader(url) as remote:
        while data := remote.read(BLOCK_BYTES):
            sha256.update(data)
            file.write(data)
    return sha256.hexdigest()


def upload(path: Path, url: str) -> None:
    """Put a file at a URL, where it is shown when it is whole.

    Raises DataError and UsageError.
    """

    def put() -> None:
        files, target = filesystem(url)
        put_whole(files, target, lambda at: files.put_file(str(path), at))
        files.invalidate_cache(target)
        if (size := files.info(target)["size"]) != path.stat().st_size:
            raise ConnectionError(f"{size:,} of {path.stat().st_size:,} bytes arrived")

    trying("write", url, put)


def write(url: str, data: bytes) -> None:
    """Put a small file at a URL. Raises DataError and UsageError."""

    def put() -> None:
        files, target = filesystem(url)
        put_whole(files, target, lambda at: files.pipe_file(at, data))
        files.invalidate_cache(target)

    trying("write", url, put)


def put_whole(files: Any, target: str, put: Callable[[str], None]) -> None:
    """Let `put` write a file. Stores show it when it is whole; a folder (file://) shows it before.

    There it gets its name at last.
    """
    from fsspec.implementations.local import LocalFileSystem

    files.makedirs(target.rpartition("/")[0], exist_ok=True)
    if not isinstance(files, LocalFileSystem):
        put(target)
        return
    put(target + UNFINISHED)
    files.mv(target + UNFINISHED, target)


def remove(url: str) -> None:
    """Delete the file at a URL, if it is there. Raises DataError and UsageError."""

    def delete() -> None:
        files, path = filesystem(url)
        with suppress(FileNotFoundError):
            files.rm_file(path)
        files.invalidate_cache(path)

    trying("delete", url, delete)


def filesystem(url: str) -> tuple[Any, str]:
    """Return what fsspec knows a store by, and the path of a URL in it."""
    import fsspec  # it takes a tenth of a second, and most work is local

    found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    return found


def described(url: str, facts: dict[str, Any]) -> RemoteFile:
    """Return a file as its store describes it."""
    written = next((facts[name] for name in TIMES if facts.get(name)), None)
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    modified = written.timestamp() if isinstance(written, datetime) else written
    version = next((facts[name] for name in VERSIONS if facts.get(name)), modified)
    return RemoteFile(url, facts.get("size"), str(version), modified)


def trying(doing: str, url: str, work: Callable[[], Result]) -> Result:
    """Return what some work with a URL gives, tried again where that may help."""
    for wait_s in (*WAITS_S, None):
        try:
            return work()
        except IlladaError:
            raise
        except Exception as error:
            if told := final(doing, url, error):
                raise told from error
            if wait_s is None:
                raise DataError(f"cannot {doing} {url}: {first_line(error)}", GO_ON_HINT) from error
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def final(doing: str, url: str, error: Exception) -> IlladaError | None:
    """Return what there is to say of an error that no further try would mend."""
    scheme = url.partition("://")[0]
    if isinstance(error, FileNotFoundError):
        return DataError(f"no such file or folder: {url}")
    if isinstance(error, ImportError):
        extra = EXTRAS.get(scheme)
        hint = f"pip install 'illada[{extra}]'" if extra else None
        return UsageError(f"{scheme}:// lacks its package: {first_line(error)}", hint)
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return UsageError(f"there is no way to {scheme}://", "such as s3://, gs:// or hf://")
    if isinstance(error, NotImplementedError):
        return UsageError(f"{scheme}:// can only be read", "name a folder, s3:// or gs://")
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return DataError(f"no right to {doing} {url}: {first_line(error)}", RIGHTS_HINT)
    return None
