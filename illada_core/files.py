"""Files and folders that are complete or absent, also after a crash; locks, hashes, JSON, TOML.

All that is written goes aside first, under a name with `.partial` in it, is synced and then
renamed. No other module renames, syncs or locks. A file of JSON is read by `read_json`, one of TOML
by `read_toml`; what their values must be is told by `shaped` (decoding.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

from illada_core.decoding import decode_json, decode_toml
from illada_core.errors import DataError, IlladaError, UsageError

PARTIAL = ".partial"  # ends the name of an unfinished file
PARTIAL_FOLDER = ".partial-"  # begins the name of a folder that is half-written or half-deleted


def partial_path(path: Path) -> Path:
    """Return the temporary name under which a file is written."""
    return path.with_name(path.name + PARTIAL)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Make an OSError name the file it is about: a write knows only its number."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a rename is so only then."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(file: IO[Any]) -> None:
    """Wait until all that was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def publish(file: IO[Any], path: Path) -> None:
    """Close a file that was written to `partial_path(path)` and give it its name, durably."""
    with naming_file(path):
        flush(file)
        file.close()
        partial_path(path).replace(path)
        sync(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Write a small file at once and durably, replacing what had its name."""
    try:
        with naming_file(path), open(partial_path(path), "wb") as file:
            file.write(data)
            publish(file, path)
    except OSError:
        with suppress(OSError):
            partial_path(path).unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, which at the end gets its name, replacing what had it; else it goes.

    An OSError on the way names `path`: the temporary name says nothing to a user.
    """
    aside = path.with_name(PARTIAL_FOLDER + path.name)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with naming_file(path):
            yield aside
            for part in (*aside.rglob("*"), aside):
                sync(part)
            replaced = set_aside(path) if path.exists() else None
            aside.rename(path)
            sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if replaced:
        shutil.rmtree(replaced, ignore_errors=True)


def remove_unfinished(path: Path) -> None:
    """Delete what a killed process left of a folder while it wrote or deleted it."""
    for name in (PARTIAL_FOLDER + path.name, f"{PARTIAL_FOLDER}old-{path.name}"):
        shutil.rmtree(path.with_name(name), ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder, if it is there, so that no half of it is ever left under its name."""
    if path.is_dir():
        shutil.rmtree(set_aside(path))


def set_aside(path: Path) -> Path:
    """Take its name from a folder that is to be deleted; return the one it has now."""
    doomed = path.with_name(f"{PARTIAL_FOLDER}old-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    return path.rename(doomed)


def lock(file: IO[Any], refusal: IlladaError) -> None:
    """Lock an open file until it is closed; raise `refusal` if another process holds it.

    Never a folder: NFS locks none.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise refusal from None


@contextmanager
def locking(path: Path, refusal: IlladaError) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be; it dies with the process."""
    with open(path, "a") as file:
        lock(file, refusal)
        yield


@contextmanager
def locking_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; DataError if one is at work in it. Leaves no file behind."""
    path = folder / f"lock{PARTIAL}"
    with locking(path, another_run(folder)):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def another_run(folder: Path) -> DataError:
    """Return the error that two runs would write the same folder."""
    return DataError(f"another run is writing {folder}")


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, error: type[IlladaError] = DataError) -> bytes:
    """Return what a file holds. Raises `error` for what is none: a pipe never ends, a device is no
    file. FileNotFoundError or another OSError where it cannot be opened.
    """
    # Without waiting for a writer, should it be a pipe.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise error(f"{path} is a pipe or a device, not a file")
        return file.read()


def read_json(
    path: Path, error: type[IlladaError] = DataError, hint: str | None = None
) -> dict[str, Any]:
    """Return the JSON object of a file, an empty one if there is no such file.

    Raises `error`, which names the file, for anything else.
    """
    try:
        data = read_bytes(path, error)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return parse_json(data, path, error, hint)


def parse_json(
    data: bytes, path: Path, error: type[IlladaError] = DataError, hint: str | None = None
) -> dict[str, Any]:
    """Return the JSON object that the bytes of a file hold, as `read_json` does."""
    with decoding(path, error, hint, "is not valid JSON"):
        value = decode_json(data)
    if not isinstance(value, dict):
        raise error(f"{path} holds no JSON object", hint)
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises UsageError, which names the file."""
    with decoding(path, UsageError, None, "is not valid TOML"):
        return decode_toml(read_bytes(path, UsageError).decode())


@contextmanager
def decoding(
    path: Path,
    error: type[IlladaError] = DataError,
    hint: str | None = None,
    fault: str = "is damaged",
) -> Iterator[None]:
    """Tell what is wrong in a file as `error`: its name, the fault, and what decoding said.

    That is what `decode_json`, `decode_toml` and `shaped` raise.
    """
    try:
        yield
    except ValueError as cause:
        raise error(f"{path} {fault} ({cause})", hint) from None


def json_bytes(value: Any) -> bytes:
    """Write JSON for people."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write a small file of JSON for people, as `write_file` does."""
    write_file(path, json_bytes(value))
