"""A folder here whose files go to a URL when they are finished, whole and one after the other.

A store has no renaming and no locks. So what stands for others goes last, and a run knows by it
what is there already; nobody is kept from doing the same work twice, which gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from illada_core import remote
from illada_core.files import make_folder
from illada_core.places import outbox_of, told
from illada_core.remote import RemoteFile

AT_ONCE = 16


@dataclass(frozen=True)
class Outbox:
    """The outbox of a URL, which has a `view`: the folder of what is there (path_of)."""

    view: Path

    @cached_property
    def url(self) -> str:
        """Where all is to be."""
        return told(self.view)

    @cached_property
    def folder(self) -> Path:
        """Where files are made."""
        folder = outbox_of(self.view)
        make_folder(folder)
        return folder

    def __truediv__(self, part: str) -> Outbox:
        return Outbox(self.view / part)

    def there(self) -> dict[str, RemoteFile]:
        """Return the files at the URL, those of folders left out."""
        return remote.list_files(self.url, is_deep=False)

    def send(self, name: str) -> None:
        """Put a file of the outbox at the URL, replacing what has its name; it stays here."""
        remote.upload(self.folder / name, f"{self.url}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Put a small file at the URL."""
        remote.write(f"{self.url}/{name}", data)

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return what small files at the URL hold, fetched some at a time."""
        wanted = list(names)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = pool.map(remote.read, [f"{self.url}/{name}" for name in wanted])
            return dict(zip(wanted, found, strict=True))

    def remove(self, names: Iterable[str]) -> None:
        """Delete files at the URL, one after the other."""
        for name in names:
            remote.remove(f"{self.url}/{name}")

    def holds(self, there: dict[str, RemoteFile], name: str, size: int) -> bool:
        """Tell whether a file is among those at the URL, and of a size."""
        return name in there and there[name].bytes == size
