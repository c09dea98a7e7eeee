"""Files that are complete or absent, also after a crash: write aside, sync, rename."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from illada_core.errors import DataError

PARTIAL = ".partial"


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


def write_file(path: Path, data: bytes) -> None:
    """Write a small file at once and durably, replacing what had its name."""
    aside = partial_path(path)
    try:
        with naming_file(path):
            with open(aside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def locking_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; DataError if one is at work in it. Leaves no file behind."""
    path = folder / f"lock{PARTIAL}"
    with open(path, "a") as file:
        lock(file, folder)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def lock(file: IO[str], folder: Path) -> None:
    """Lock a file of a folder; DataError if another run has. Only files: NFS locks no folders."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"another run is writing {folder}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename is one only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
