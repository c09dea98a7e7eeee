"""Files and folders that are complete or absent, also after a crash; locks, hashes, JSON, TOML.

All that is written goes aside first, under a name with `.partial` in it, is synced and then
renamed. Every output has one writer at a time, by one kind of lock. No other module renames, syncs
or locks. A file of JSON is read by `read_json`, one of TOML by `read_toml`; what their values must
be is told by `shaped` (decoding.py).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any

from illada_core.decoding import decode_json, decode_toml
from illada_core.errors import DataError, IlladaError, UsageError

PARTIAL = ".partial"  # ends the name of an unfinished file
PARTIAL_FOLDER = ".partial-"  # begins the name of a folder that is half-written or half-deleted
LOCK = ".illada-lock"  # in the folder that is written; beside a file FILE it is .FILE.illada-lock
KEY_LETTERS = 16


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


def write_all(file: FileIO, data: bytes, path: Path) -> None:
    """Write to an unbuffered file: no kill loses what was written, no full disk keeps silent."""
    with naming_file(path):
        while data:  # a disk that is nearly full takes a part and says nothing
            data = data[file.write(data) :]


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there, each with a name that stays."""
    if path.is_dir():
        return
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


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
    make_folder(path.parent)
    aside.mkdir()
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


def move(path: Path, target: Path) -> Path:
    """Give a file in a folder that is not yet complete another name there, and return that."""
    return path.rename(target)


def set_aside(path: Path) -> Path:
    """Take its name from a folder that is to be deleted; return the one it has now."""
    doomed = path.with_name(f"{PARTIAL_FOLDER}old-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    return path.rename(doomed)


@contextmanager
def writing_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be; DataError if one is in it."""
    make_folder(folder)
    with holding(folder / LOCK, folder):
        yield


@contextmanager
def writing_file(path: Path) -> Iterator[None]:
    """Keep other runs from a file, or a folder that is replaced; DataError if one writes it."""
    with holding(lock_path(path), path):
        yield


@contextmanager
def awaiting_file(path: Path) -> Iterator[None]:
    """Keep others from a file of a cache, which all may write; wait until none has it in hand."""
    with holding(lock_path(path), path, waits=True):
        yield


def lock_path(path: Path) -> Path:
    """Return the lock of a file that is written; it lies beside it."""
    named = path.resolve()
    return named.with_name(f".{named.name}{LOCK}")


@contextmanager
def holding(lock: Path, output: Path, waits: bool = False) -> Iterator[None]:
    """Hold a lock, which dies with the process; its file goes in the end, by whoever holds it.

    DataError if another process holds it, unless this one `waits`.

    What is locked is the file, not its name: it may have gone between opening and locking, and
    another may have made it anew. Then both begin again, so that never two hold one name. A folder
    itself is never locked: NFS locks none.
    """
    while True:
        with naming_file(output):
            file = open(lock, "a")  # noqa: SIM115 (closed below, after its name is gone)
        with file:
            lock_file(file, output, waits)
            if not is_named(file, lock):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def lock_file(file: IO[Any], output: Path, waits: bool = False) -> None:
    """Lock an open file until it is closed. Raises DataError if another process holds it."""
    try:
        with naming_file(output):
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        hint = "wait until it has ended, or name another output with -o"
        raise DataError(f"another run is writing {output}", hint) from None


def is_named(file: IO[Any], path: Path) -> bool:
    """Tell whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_being_written(folder: Path) -> bool:
    """Tell whether a run is at work in a folder, or was until it was killed."""
    return (folder / LOCK).exists()


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(named: Any) -> str:
    """Return a short hash of plain JSON, which names whatever is equal to it."""
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:KEY_LETTERS]


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


def json_line(value: Any) -> str:
    """Write JSON in a line, without its end; in ASCII where UTF-8 cannot hold a lone surrogate."""
    line = json.dumps(value, ensure_ascii=False)
    is_utf8 = not any("\ud800" <= letter <= "\udfff" for letter in line)
    return line if is_utf8 else json.dumps(value)


def write_json(path: Path, value: Any) -> None:
    """Write a small file of JSON for people, as `write_file` does."""
    write_file(path, json_bytes(value))
