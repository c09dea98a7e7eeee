"""A store in memory in which datasets are written, and runs that end at any change of it."""

from contextlib import contextmanager

import fsspec

from illada_core import remote

OPERATIONS = ("upload", "write", "remove")  # of remote, that change what is at a URL


class Killed(BaseException):
    """Ends a run where it stands, as SIGKILL does; nothing may catch it."""


@contextmanager
def bucket_in_memory(monkeypatch, cache):
    """Give the files of a store whose bucket is empty, before and after; failures are final."""
    monkeypatch.setenv("ILLADA_CACHE", str(cache))
    monkeypatch.setattr(remote, "WAITS_S", ())
    files = fsspec.filesystem("memory")
    yield files
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


def files_in(memory, folder):
    """Return the bytes of the files below a folder, by their paths in it."""
    return {path[len(folder) + 1 :]: memory.cat(path) for path in memory.find(folder)}


def killed_at(number, monkeypatch, work):
    """Do work until its number-th change of what is at the URL; tell whether that came."""
    count = 0

    def counted(operation, *arguments):
        nonlocal count
        count += 1
        if count == number:
            raise Killed
        operation(*arguments)

    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            operation = getattr(remote, name)
            patch.setattr(remote, name, lambda *a, operation=operation: counted(operation, *a))
        try:
            work()
        except Killed:
            return True
    return False
