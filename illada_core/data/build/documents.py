"""A job done: text to a token dataset, by one process or in portions by many (laws 1 and 2).

The sources are cut into partitions that depend on nobody's number of machines. One process does
them one after the other and writes the manifest; of many, each does its portion of them, and one
writes the manifest in the end. Either way the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from illada_core.data.build.events import BuildEvent, OnError, Report
from illada_core.data.build.job import Job
from illada_core.data.build.journal import (
    FRESH_HINT,
    Stage,
    clear_earlier_run,
    is_unfinished,
    journals_in,
    read_journal,
    refuse_foreign,
    remove_journals,
    shards_of,
)
from illada_core.data.build.merging import (
    check_partitions,
    complete_report,
    totals,
    write_dataset,
)
from illada_core.data.build.partitions import Partition, bytes_of
from illada_core.data.build.tokenizing import comes_again, tokenize_partition
from illada_core.data.portion import Portion
from illada_core.data.store.views import MANIFEST
from illada_core.errors import UsageError
from illada_core.files import make_folder, writing_folder
from illada_core.text.tokenizer_files import TOKENIZER_FILE


def tokenize_corpus(
    job: Job,
    folder: Path,
    workers: int,
    on_error: OnError = "stop",
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Write a token dataset to `folder`, or finish the one that an earlier run left there.

    Yields what happens, and a Report at the end; without one it was stopped by `should_stop`, and
    goes on from the last finished shard when it is called again. UsageError if the folder holds
    anything else, DataError at a document that cannot be used, unless `on_error` is "skip".
    """

    def tokenize_all() -> Generator[BuildEvent, None, Report | None]:
        done = yield from tokenize_each(job, job.partitions, folder, workers, on_error, should_stop)
        return write_dataset(job, folder, *done) if done else None

    yield from complete(job, folder, tokenize_all)


def merge_parts(
    job: Job,
    folder: Path,
    workers: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Write the manifest of a dataset whose portions are done, every byte of which is checked.

    Yields what happens, and a Report at the end, unless it was stopped. DataError if a partition is
    not finished or a shard is not what was written, UsageError if a portion was done with other
    settings.
    """

    def merge() -> Generator[BuildEvent, None, Report | None]:
        with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
            stages = yield from check_partitions(job, folder, pool.map, should_stop)
        return write_dataset(job, folder, stages, len(shards_of(stages))) if stages else None

    yield from complete(job, folder, merge)


def complete(
    job: Job, folder: Path, work: Callable[[], Generator[BuildEvent, None, Report | None]]
) -> Generator[BuildEvent, None, None]:
    """Do what makes a folder a dataset, unless it is one; no other run may do so meanwhile."""
    if (folder / MANIFEST).exists() and not is_unfinished(folder):
        yield complete_report(job, folder)
        return
    refuse_foreign(folder, job.fingerprint)
    with writing_folder(folder):
        is_made = (folder / MANIFEST).exists()
        report = complete_report(job, folder) if is_made else (yield from work())
        if report:
            remove_journals(folder)  # also those of a run that was killed at its very end
    if report:
        yield report


def tokenize_part(
    job: Job,
    portion: Portion,
    folder: Path,
    workers: int,
    on_error: OnError = "stop",
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Do a portion of a job's partitions; any number of processes may do others meanwhile.

    Yields what happens, and a PartDone at the end; without one it was stopped. A Report if the
    dataset is complete already. Raises what `tokenize_corpus` does, and UsageError for a pipe.
    """
    refuse_pipes(job)
    if (folder / MANIFEST).exists():
        yield complete_report(job, folder)
        return
    refuse_foreign(folder, job.fingerprint)
    make_folder(folder)
    own = own_partitions(job, portion)
    done = yield from tokenize_each(job, own, folder, workers, on_error, should_stop)
    if done:
        yield totals(done[0])


def refuse_pipes(job: Job) -> None:
    """Raise UsageError if an input can be read by one process alone, and once."""
    if pipe := next((source for source in job.sources if not comes_again(source)), None):
        raise UsageError(
            f"{pipe.name} is a stream, and each part would take some of it",
            "write it to a file, and name that",
        )


def tokenize_each(
    job: Job,
    partitions: Sequence[Partition],
    folder: Path,
    workers: int,
    on_error: OnError,
    should_stop: Callable[[], bool],
) -> Generator[BuildEvent, None, tuple[list[Stage], int] | None]:
    """Tokenize partitions one after the other; return what `tokenize_partition` does of all."""
    stages: list[Stage] = []
    earlier = 0
    for partition in partitions:
        done = yield from tokenize_partition(job, partition, folder, workers, on_error, should_stop)
        if done is None:
            return None
        stages += done[0]
        earlier += done[1]
    return stages, earlier


def own_partitions(job: Job, portion: Portion) -> list[Partition]:
    """Return the partitions that fall to a portion."""
    partitions = job.partitions
    return [partitions[n] for n in portion.of([bytes_of(job.sources, each) for each in partitions])]


def make_room(job: Job, folder: Path, fresh: bool) -> None:
    """Remove what an earlier run left there if `fresh`, so that a dataset can be written.

    UsageError if a folder that is no dataset holds another tokenizer, which would be replaced.
    """
    if fresh:
        clear_earlier_run(folder)
        return
    is_begun = (folder / MANIFEST).exists() or bool(journals_in(folder))
    if not is_begun:
        refuse_other_tokenizer(job, folder)


def refuse_other_tokenizer(job: Job, folder: Path) -> None:
    """Raise UsageError if a folder holds another tokenizer than a job's."""
    kept = folder / TOKENIZER_FILE
    if kept.exists() and kept.read_bytes() != job.tokenizer.files.data:
        raise UsageError(f"{folder} holds another {TOKENIZER_FILE}", FRESH_HINT)


def count_finished_shards(job: Job, folder: Path) -> int:
    """Return how many shards earlier runs finished; UsageError if another job did."""
    if (folder / MANIFEST).exists():
        return complete_report(job, folder).shards
    journals = (read_journal(folder, each, job.fingerprint) for each in job.partitions)
    return sum(len(shards_of(stages)) for stages in journals)
