"""The journal of a partition: what a killed run has to know to go on as if never killed.

One line for the job, then one for each finished shard, written before the shard gets its name, and
one for what comes after the last shard. The files end in .partial like all that is unfinished, and
go when the manifest comes.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from illada_core.data.build.partitions import Partition
from illada_core.data.store.dataset import clear_dataset
from illada_core.data.store.manifest import has_foreign_manifest
from illada_core.data.store.shards import (
    DAMAGED_HINT,
    SHARD_NAME,
    ShardEntry,
    finished_shard,
    shard_name,
)
from illada_core.data.store.views import MANIFEST
from illada_core.decoding import Count, decode_json, shaped
from illada_core.errors import DataError, UsageError
from illada_core.files import (
    LOCK,
    PARTIAL,
    decoding,
    flush,
    is_being_written,
    lock_path,
    naming_file,
    read_bytes,
    sync,
    write_file,
    writing_file,
    writing_folder,
)
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE

JOURNALS = f"tokenize*.jsonl{PARTIAL}"
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
    `cut` examples made shorter. The last stage of a partition has no shard if nothing was left.
    """

    position: tuple[Count, Count] = (0, 0)
    text_bytes: Count = 0
    skipped: dict[str, Count] = field(default_factory=Counter)
    digests: list[tuple[Count, str]] = field(default_factory=list)
    cut: Count = 0
    shard: ShardEntry | None = None


def journal_path(folder: Path, partition: Partition) -> Path:
    """Return the file in which a partition's journal is kept."""
    return folder / f"tokenize-{partition.number:06d}.jsonl{PARTIAL}"


def journals_in(folder: Path) -> list[Path]:
    """Return the journals that there are in a folder, by partition."""
    return sorted(folder.glob(JOURNALS))


class Journal:
    """The journal of a partition that this run alone writes (`writing_file`), open for appending.

    It takes up what an earlier run of the same job left there, or removes it unless `goes_on`.
    UsageError if it is of another job, DataError if a shard is not the one that was written. A
    context manager.
    """

    def __init__(
        self, folder: Path, partition: Partition, job: str, vocab_size: int, goes_on: bool = True
    ) -> None:
        self.folder, self.partition, self.job = folder, partition, job
        self.path, self.vocab_size = journal_path(folder, partition), vocab_size
        self.stages: list[Stage] = []
        is_new = not self.path.exists()
        if not is_new and not self.path.is_file():
            raise DataError(f"{self.path} is not a file", FRESH_HINT)
        if not is_new:
            self._recover(goes_on)
        self._file: IO[str] = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        if is_new:
            self._append({"job": job})
            sync(folder)

    @property
    def position(self) -> tuple[int, int]:
        """Where the first shard that is not finished begins."""
        return self.stages[-1].position if self.stages else (self.partition.first, 0)

    @property
    def shards(self) -> list[ShardEntry]:
        """The finished shards."""
        return shards_of(self.stages)

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the partition is left to do."""
        return is_complete(self.stages, self.partition)

    @property
    def next_shard(self) -> Path:
        """The file of the shard that is not finished."""
        return self.folder / shard_name(len(self.shards), self.vocab_size, self.partition.number)

    def record(self, stage: Stage) -> None:
        """Write down what a shard holds that is about to be finished, or what comes after all."""
        self._append(fields_of(stage))
        self.stages.append(stage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _recover(self, goes_on: bool) -> None:
        written = read_journal(self.folder, self.partition, self.job) if goes_on else []
        for stage in written:
            if stage.shard and not is_there(
                self.next_shard, stage.shard, self.vocab_size, self.job
            ):
                break
            self.stages.append(stage)
        # What the killed run wrote after its last shard goes.
        names = {shard.name for shard in self.shards}
        for path in self.folder.glob(f"shard-{self.partition.number:06d}-*"):
            if path.name not in names and SHARD_NAME.fullmatch(path.name.removesuffix(PARTIAL)):
                path.unlink()
        kept = [{"job": self.job}, *map(fields_of, self.stages)]
        write_file(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def _append(self, fields: dict[str, Any]) -> None:
        with naming_file(self.path):
            self._file.write(json.dumps(fields) + "\n")
            flush(self._file)


def header_of(job: str) -> bytes:
    """Return the first line of a journal."""
    return (json.dumps({"job": job}) + "\n").encode()


def fields_of(stage: Stage) -> dict[str, Any]:
    """Return a stage as its line in the journal."""
    return {**vars(stage), "shard": vars(stage.shard) if stage.shard else None}


def is_there(path: Path, entry: ShardEntry, vocab_size: int, job: str) -> bool:
    """Tell whether a shard has its name; DataError if it is not the one that was written."""
    found = finished_shard(path, vocab_size, job)
    if found not in (None, entry):
        raise DataError(f"damaged shard: {path} is not what was written", DAMAGED_HINT)
    return found is not None


def shards_of(stages: list[Stage]) -> list[ShardEntry]:
    """Return the shards of some stages."""
    return [stage.shard for stage in stages if stage.shard]


def is_complete(stages: list[Stage], partition: Partition) -> bool:
    """Tell whether stages go to the end of their partition."""
    return bool(stages) and stages[-1].position == (partition.stop, 0)


def refuse_foreign(folder: Path, job: str) -> None:
    """Raise UsageError for a folder that holds something, and not the beginning of this job."""
    refuse_strange(folder, {path.name for path in folder.iterdir()} if folder.is_dir() else set())
    for path in journals_in(folder)[:1]:  # the others are looked at when their partitions are
        stages_of(read_bytes(path), path, job)


def refuse_strange(folder: Path, found: set[str]) -> None:
    """Raise UsageError if a folder holds these names and neither a dataset nor a journal."""
    strange = {name for name in found - MAY_BE_THERE if not name.endswith(LOCK)}
    if strange and MANIFEST not in found and not any(map(is_journal_name, found)):
        raise UsageError(f"{folder} is not empty, and no dataset", FRESH_HINT)


def is_journal_name(name: str) -> bool:
    """Tell whether a file would be the journal of a partition."""
    return fnmatch(name, JOURNALS)


def is_unfinished(folder: Path) -> bool:
    """Tell whether a run is at work in a folder, or was until it was killed."""
    return is_being_written(folder) or bool(journals_in(folder))


def clear_earlier_run(folder: Path) -> None:
    """Remove a dataset, or what was begun of one; DataError if a run is at work in it.

    UsageError for a folder whose manifest or journal is not ours: then nothing is touched.
    """
    journals = journals_in(folder)
    for path, is_foreign in (
        (folder / MANIFEST, has_foreign_manifest(folder)),
        *((journal, not is_journal(read_bytes(journal))) for journal in journals),
    ):
        if is_foreign:
            raise UsageError(f"{path} is not of a dataset", "name another folder with -o")
    if not (folder / MANIFEST).exists() and not is_unfinished(folder):
        return
    with writing_folder(folder):
        for journal in journals:
            if lock_path(journal).exists():  # a part may be at work on it
                with writing_file(journal):
                    pass
        if (folder / MANIFEST).exists() and not journals:
            # From here on the folder is one that was begun, wherever the clearing is interrupted.
            journals = [journal_path(folder, Partition(0, 0, 0))]
            write_file(journals[0], header_of("to be removed"))
        clear_dataset(folder, [journal.name for journal in journals])


def remove_journals(folder: Path) -> None:
    """Remove all journals: the manifest stands."""
    for path in journals_in(folder):
        path.unlink()


def is_journal(data: bytes) -> bool:
    """Tell whether a file with these bytes is a journal, be its first line only half-written."""
    start = b'{"job": "'
    return start.startswith(data[: len(start)])


def read_journal(folder: Path, partition: Partition, job: str) -> list[Stage]:
    """Return what the journal of a partition says, nothing if there is none.

    UsageError if it is of another job, DataError if it is damaged.
    """
    path = journal_path(folder, partition)
    return stages_within(read_bytes(path), path, partition, job) if path.exists() else []


def stages_within(data: bytes, path: Path, partition: Partition, job: str) -> list[Stage]:
    """Return what the bytes of a partition's journal say, as `read_journal` does."""
    stages = stages_of(data, path, job)
    ends = range(partition.first, partition.stop + 1)
    with decoding(path, hint=FRESH_HINT):
        if stray := next((stage for stage in stages if stage.position[0] not in ends), None):
            raise ValueError(f"position {stray.position} is of another partition")
    return stages


def stages_of(data: bytes, path: Path, job: str) -> list[Stage]:
    """Return what the bytes of a journal say of each shard, as `read_journal` does."""
    # A line without its end was being written when the run was killed.
    header, *lines = data.split(b"\n")[:-1] or [header_of(job)]
    with decoding(path, hint=FRESH_HINT):
        found = shaped(decode_json(header), Header, "it")
        if found.job == job:
            return [shaped(decode_json(line), Stage, "it") for line in lines]
    raise UsageError(
        f"{path.parent} was begun from other inputs, or with other settings", FRESH_HINT
    )
