"""The journal of an unfinished dataset: what a killed run has to know to go on as if never killed.

One line for the job, then one for each finished shard, written before the shard gets its name. The
file ends in .partial like all that is unfinished, and goes when the manifest comes.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from illada_core.data.store.dataset import MANIFEST, clear_dataset, has_foreign_manifest
from illada_core.data.store.shards import ShardEntry, finished_shard, shard_name
from illada_core.decoding import Count, decode_json, shaped
from illada_core.errors import DataError, UsageError
from illada_core.files import (
    LOCK,
    PARTIAL,
    decoding,
    flush,
    is_being_written,
    naming_file,
    read_bytes,
    sync,
    write_file,
    writing_folder,
)
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE

JOURNAL = f"tokenize.jsonl{PARTIAL}"
# The tokenizer of a dataset stays when --fresh removes the rest.
MAY_BE_THERE = {LOCK, TOKENIZER_FILE, *COMPANIONS}
FRESH_HINT = "use --fresh to replace it, or another folder with -o"


@dataclass(frozen=True)
class Header:
    """The first line of a journal: which job it is of."""

    job: str


@dataclass
class Stage:
    """What one shard adds to what is known, up to the position where the next begins.

    `digests` are size and sha256 of the files that ended; `skipped` counts documents left out,
    `cut` examples made shorter.
    """

    position: tuple[Count, Count] = (0, 0)
    text_bytes: Count = 0
    skipped: dict[str, Count] = field(default_factory=Counter)
    digests: list[tuple[Count, str]] = field(default_factory=list)
    cut: Count = 0


class Journal:
    """The journal of a folder that this run alone writes (`writing_folder`), open for appending.

    It takes up what an earlier run of the same job left there, or removes it unless `goes_on`.
    UsageError if it is of another job. A context manager.
    """

    def __init__(self, folder: Path, job: str, vocab_size: int, goes_on: bool = True) -> None:
        self.folder, self.path, self.job = folder, folder / JOURNAL, job
        self.stages: list[Stage] = []
        self.shards: list[ShardEntry] = []
        is_new = not self.path.exists()
        if not is_new and not self.path.is_file():
            raise DataError(f"{self.path} is not a file", FRESH_HINT)
        if not is_new:
            self._recover(vocab_size, goes_on)
        self._file: IO[str] = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        if is_new:
            self._append({"job": job})
            sync(folder)

    @property
    def position(self) -> tuple[int, int]:
        """Where the first shard that is not finished begins."""
        return self.stages[-1].position if self.stages else (0, 0)

    def record(self, stage: Stage) -> None:
        """Write down what a shard holds that is about to be finished."""
        self._append(vars(stage))
        self.stages.append(stage)

    def remove(self) -> None:
        """Remove the journal: the manifest stands."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _recover(self, vocab_size: int, goes_on: bool) -> None:
        kept: list[dict[str, Any]] = [{"job": self.job}]
        stages = read_journal(self.folder, self.job)
        if not goes_on:
            clear_dataset(self.folder)
            stages = []
        for stage in stages:
            path = self.folder / shard_name(len(self.shards), vocab_size)
            shard = finished_shard(path, vocab_size, self.job)
            if shard is None:
                break
            self.shards.append(shard)
            self.stages.append(stage)
            kept.append(vars(stage))
        # What the killed run wrote after its last shard goes.
        write_file(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def _append(self, fields: dict[str, Any]) -> None:
        with naming_file(self.path):
            self._file.write(json.dumps(fields) + "\n")
            flush(self._file)


def refuse_foreign(folder: Path) -> None:
    """Raise UsageError for a folder that holds something, and neither a dataset nor one begun."""
    is_ours = (folder / JOURNAL).exists() or (folder / MANIFEST).exists()
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not is_ours and found - MAY_BE_THERE:
        raise UsageError(f"{folder} is not empty, and no dataset", FRESH_HINT)


def is_unfinished(folder: Path) -> bool:
    """Tell whether a run is at work in a folder, or was until it was killed."""
    return is_being_written(folder) or (folder / JOURNAL).exists()


def clear_earlier_run(folder: Path) -> None:
    """Remove a dataset, or what was begun of one; DataError if a run is at work in it.

    UsageError for a folder whose manifest or journal is not ours: then nothing is touched.
    """
    journal = folder / JOURNAL
    for path, is_foreign in (
        (folder / MANIFEST, has_foreign_manifest(folder)),
        (journal, journal.exists() and not is_journal(journal)),
    ):
        if is_foreign:
            raise UsageError(f"{path} is not of a dataset", "name another folder with -o")
    if not (folder / MANIFEST).exists() and not is_unfinished(folder):
        return
    with writing_folder(folder):
        if (folder / MANIFEST).exists() and not journal.exists():
            # From here on the folder is one that was begun, wherever the clearing is interrupted.
            write_file(journal, b'{"job": "to be removed"}\n')
        clear_dataset(folder, JOURNAL)


def is_journal(path: Path) -> bool:
    """Tell whether a file is a journal of ours, be its first line only half-written."""
    start = b'{"job": "'
    return start.startswith(read_bytes(path)[: len(start)])


def read_journal(folder: Path, job: str) -> list[Stage]:
    """Return what the journal of a folder says of each shard.

    UsageError if it is of another job, DataError if it is damaged.
    """
    path = folder / JOURNAL
    if not path.exists():
        return []
    # A line without its end was being written when the run was killed.
    header, *lines = read_bytes(path).split(b"\n")[:-1] or [json.dumps({"job": job}).encode()]
    with decoding(path, hint=FRESH_HINT):
        found = shaped(decode_json(header), Header, "it")
        stages = [shaped(decode_json(line), Stage, "it") for line in lines]
    if found.job != job:
        raise UsageError(
            f"{folder} was begun from other inputs, or with other settings", FRESH_HINT
        )
    return stages
