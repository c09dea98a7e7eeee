"""What documents.py does in a folder, at a URL: partitions are made here and put there when done.

First the beginning of a partition's journal, then its shards, then the whole journal: that is the
mark by which others, and this run after a kill, know them as finished. The manifest comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from illada_core.data.build import documents
from illada_core.data.build.events import BuildEvent, OnError, Report
from illada_core.data.build.job import Job
from illada_core.data.build.journal import (
    Stage,
    clear_earlier_run,
    header_of,
    is_complete,
    is_journal,
    is_journal_name,
    journal_path,
    refuse_strange,
    shards_of,
    stages_of,
    stages_within,
)
from illada_core.data.build.merging import (
    complete_report,
    refuse_unfinished,
    totals,
    write_dataset,
)
from illada_core.data.build.partitions import Partition
from illada_core.data.build.tokenizing import earlier_headway, tokenize_partition
from illada_core.data.portion import Portion
from illada_core.data.store.manifest import has_foreign_manifest
from illada_core.data.store.outbox import Outbox
from illada_core.data.store.shards import SHARD_NAME
from illada_core.data.store.views import MANIFEST, keep_copy, pull
from illada_core.errors import UsageError
from illada_core.files import remove_folder, writing_folder
from illada_core.text.tokenizer_files import TOKENIZER_FILE, companions


def tokenize_corpus(
    job: Job,
    folder: Path,
    workers: int,
    on_error: OnError = "stop",
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Write a token dataset to a URL, which `folder` stands for; else as in documents.py."""
    outbox = Outbox(folder)
    if (report := complete_already(job, outbox)) is None:
        with writing_folder(outbox.folder):
            work = job, job.partitions, outbox, workers, on_error, should_stop
            done = yield from deliver_each(*work)
            report = deliver_dataset(job, outbox, *done) if done else None
    if report:
        remove_folder(outbox.folder)
        yield report


def tokenize_part(
    job: Job,
    portion: Portion,
    folder: Path,
    workers: int,
    on_error: OnError = "stop",
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Put a portion of a job's partitions at a URL; else as in documents.py."""
    documents.refuse_pipes(job)
    outbox = Outbox(folder)
    if report := complete_already(job, outbox):
        yield report
        return
    own = documents.own_partitions(job, portion)
    done = yield from deliver_each(job, own, outbox, workers, on_error, should_stop)
    if done:
        yield totals(done[0])


def merge_parts(
    job: Job,
    folder: Path,
    workers: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[BuildEvent, None, None]:
    """Write the manifest of a dataset whose portions are at a URL, each shard with its size.

    Their bytes are not read again: who reads a shard compares it with the manifest. Else as in
    documents.py.
    """
    outbox = Outbox(folder)
    if (report := complete_already(job, outbox)) is None:
        found = finished_partitions(job, job.partitions, outbox)
        refuse_unfinished([partition.number in found for partition in job.partitions])
        stages = [stage for number in sorted(found) for stage in found[number]]
        for partition in job.partitions:
            yield earlier_headway(job.sources, partition, found[partition.number])
        report = deliver_dataset(job, outbox, stages, len(shards_of(stages)))
    remove_folder(outbox.folder)
    yield report


def complete_already(job: Job, outbox: Outbox) -> Report | None:
    """Return the report of a dataset that is there; UsageError if what is there is another's."""
    there = outbox.there()
    journals = sorted(filter(is_journal_name, there))
    if MANIFEST in there:
        pull(outbox.view)
        report = complete_report(job, outbox.view)
        outbox.remove(journals)  # of a run that was killed at its very end
        return report
    refuse_strange(outbox.view, set(there))
    for name, data in outbox.read(journals[:1]).items():
        stages_of(data, outbox.view / name, job.fingerprint)
    return None


def deliver_each(
    job: Job,
    partitions: Sequence[Partition],
    outbox: Outbox,
    workers: int,
    on_error: OnError,
    should_stop: Callable[[], bool],
) -> Generator[BuildEvent, None, tuple[list[Stage], int] | None]:
    """Put partitions at a URL that are not there; return what `tokenize_partition` does of all."""
    found = finished_partitions(job, partitions, outbox)
    stages: list[Stage] = []
    earlier = 0
    for partition in partitions:
        if partition.number in found:
            stages += found[partition.number]
            earlier += len(shards_of(found[partition.number]))
            yield earlier_headway(job.sources, partition, found[partition.number])
            continue
        work = job, partition, outbox.folder, workers, on_error, should_stop
        done = yield from tokenize_partition(*work)
        if done is None:
            return None
        deliver_partition(job, partition, outbox, done[0])
        stages += done[0]
        earlier += done[1]
    return stages, earlier


def finished_partitions(
    job: Job, partitions: Sequence[Partition], outbox: Outbox
) -> dict[int, list[Stage]]:
    """Return what those partitions hold that are at the URL whole, by their numbers."""
    there = outbox.there()
    paths = {journal_path(outbox.view, each): each for each in partitions}
    begun = outbox.read(path.name for path in paths if path.name in there)
    found = {}
    for path, partition in paths.items():
        stages = stages_within(begun.get(path.name, b""), path, partition, job.fingerprint)
        shards = shards_of(stages)
        if is_complete(stages, partition) and all(
            outbox.holds(there, shard.name, shard.bytes) for shard in shards
        ):
            found[partition.number] = stages
    return found


def deliver_partition(job: Job, partition: Partition, outbox: Outbox, stages: list[Stage]) -> None:
    """Put a finished partition at the URL, the mark that it is whole last."""
    journal = journal_path(outbox.folder, partition)
    if complete_already(job, outbox):
        return  # another run was sooner
    outbox.write(journal.name, header_of(job.fingerprint))
    for shard in shards_of(stages):
        outbox.send(shard.name)
    outbox.send(journal.name)
    for shard in shards_of(stages):
        keep_copy(outbox.folder / shard.name, shard)
    journal.unlink()


def deliver_dataset(job: Job, outbox: Outbox, stages: list[Stage], resumed_shards: int) -> Report:
    """Make the finished shards at a URL a dataset."""
    report = write_dataset(job, outbox.folder, stages, resumed_shards)
    for file in (outbox.folder / TOKENIZER_FILE, *companions(outbox.folder)):
        outbox.send(str(file.relative_to(outbox.folder)))
    outbox.send(MANIFEST)
    outbox.remove(sorted(filter(is_journal_name, outbox.there())))
    return report


def make_room(job: Job, folder: Path, fresh: bool) -> None:
    """Remove what an earlier run left at a URL, if `fresh`; else as in documents.py."""
    outbox = Outbox(folder)
    pull(folder)
    if fresh:
        clear_earlier_run(outbox.folder)
        clear_url(outbox)
    elif not {name for name in outbox.there() if name == MANIFEST or is_journal_name(name)}:
        documents.refuse_other_tokenizer(job, folder)


def clear_url(outbox: Outbox) -> None:
    """Remove a dataset at a URL, or what was begun of one; UsageError if it is not ours."""
    there = outbox.there()
    journals = sorted(filter(is_journal_name, there))
    begun = outbox.read(journals)
    strange = [name for name in journals if not is_journal(begun[name])]
    if strange or has_foreign_manifest(outbox.view):
        path = outbox.view / (strange or [MANIFEST])[0]
        raise UsageError(f"{path} is not of a dataset", "name another folder with -o")
    if MANIFEST in there and not journals:
        # From here on it is one that was begun, wherever this is ended.
        journals = [journal_path(outbox.view, Partition(0, 0, 0)).name]
        outbox.write(journals[0], header_of("to be removed"))
    if journals:
        shards = sorted(name for name in there if SHARD_NAME.fullmatch(name))
        # First the manifest, so that none is left which names shards that are gone.
        outbox.remove([*({MANIFEST} & set(there)), *shards, *journals])


def count_finished_shards(job: Job, folder: Path) -> int:
    """Return how many shards are at a URL; UsageError if another job put them there."""
    outbox = Outbox(folder)
    if report := complete_already(job, outbox):
        return report.shards
    found = finished_partitions(job, job.partitions, outbox)
    return sum(len(shards_of(stages)) for stages in found.values())
