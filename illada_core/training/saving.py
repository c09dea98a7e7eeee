"""Checkpoints of a model in shards, written by all ranks while training goes on.

Each rank copies what it holds and writes it in the background (torch.distributed.checkpoint, as
safetensors). When all have, and the next step begins, they compare notes: rank 0 adds the hashes
and gives the folder its name. What fails on one rank fails on all. At most one checkpoint is
underway.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist
from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageWriter, async_save

from illada_core.errors import CheckpointError
from illada_core.files import move, new_folder
from illada_core.model.finding import MODEL
from illada_core.model.weights import describe_model
from illada_core.training import run_folder
from illada_core.training.checkpoint import MOMENTS, Contents
from illada_core.training.parallel import LONG_WAIT, Ranks, exchange, failing_alike

# A rank's files: as they are to be called, by their numbers in torch's names.
PARTS = {1: f"{MODEL}/model", 2: MOMENTS}


@dataclass(frozen=True)
class Underway:
    """A checkpoint that is being written, aside of its name.

    `files` are those of this rank, once they are there; `naming` gives the folder its name, on
    rank 0.
    """

    contents: Contents
    aside: Path
    files: "Future[run_folder.Files]"
    naming: ExitStack


class Saver:
    """Writes checkpoints; all ranks must ask it for the same things in the same order."""

    def __init__(self, run: Path, ranks: Ranks) -> None:
        self.run, self.ranks = run, ranks
        # The threads in the background have a group of their own, apart from that of the steps.
        # In it ranks wait for the slowest disk.
        self.group = dist.new_group(backend="gloo", timeout=LONG_WAIT)
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self.underway: Underway | None = None

    @property
    def is_writing(self) -> bool:
        """Whether this rank still has a file to write."""
        return self.underway is not None and not self.underway.files.done()

    def begin(self, contents: Contents) -> None:
        """Copy what this rank holds and begin to write it. Raises OSError on all ranks alike."""
        assert self.underway is None, "one checkpoint at a time"
        with ExitStack() as naming:
            with failing_alike(self.ranks):
                own = naming.enter_context(self.begun(contents)) if self.ranks.is_main else None
            aside = exchange(self.ranks, own)[0]
            assert aside is not None
            parts = dict(zip(PARTS, (contents.weights(), contents.moments()), strict=True))
            number_of = {name: part for part, tensors in parts.items() for name in tensors}
            written = async_save(
                {name: tensor for tensors in parts.values() for name, tensor in tensors.items()},
                storage_writer=HuggingFaceStorageWriter(
                    str(aside), number_of, save_distributed=True
                ),
                process_group=self.group,
            )
            assert isinstance(written, Future)
            largest = max(number_of.values())
            path = run_folder.checkpoint_path(self.run, contents.progress.step)
            number = self.ranks.rank + 1
            files = self.thread.submit(settle, written, path, aside, number, largest)
            self.underway = Underway(contents, aside, files, naming.pop_all())

    @contextmanager
    def begun(self, contents: Contents) -> Iterator[Path]:
        """Make the folder of a checkpoint, with all in it but tensors; it gets its name at last."""
        path = run_folder.checkpoint_path(self.run, contents.progress.step)
        with new_folder(path) as aside:
            (aside / MODEL).mkdir()
            describe_model(aside / MODEL, contents.model.config, contents.export)
            yield aside

    def finish(self) -> int | None:
        """Wait until the checkpoint underway is complete; return its step, None if none is.

        Raises OSError and CheckpointError on all ranks alike, and leaves nothing of it then.
        """
        underway, self.underway = self.underway, None
        if underway is None:
            return None
        with discarded_on_error(underway.naming):
            wait([underway.files])
            dist.barrier(self.group)
            with failing_alike(self.ranks):
                own = underway.files.result()
            files = {
                name: file for each in exchange(self.ranks, own) for name, file in each.items()
            }
            with failing_alike(self.ranks):
                if self.ranks.is_main:
                    rest = [
                        file
                        for file in run_folder.files_below(underway.aside)
                        if str(file.relative_to(underway.aside)) not in files
                    ]
                    files |= run_folder.describe_files(underway.aside, rest)
                    run_folder.sign_checkpoint(underway.aside, underway.contents.state, files)
                    underway.naming.close()
        return underway.contents.progress.step

    def close(self) -> None:
        """Give up what is underway."""
        if self.underway is not None:
            discard(self.underway.naming)
        self.thread.shutdown(wait=False)


def settle(
    written: "Future[object]", path: Path, aside: Path, number: int, largest: int
) -> run_folder.Files:
    """Wait until a rank's files are written; name them as ours, and return what they are."""
    try:
        written.result()
    except CheckpointException as error:
        raise first_failure(error, path) from None
    own = []
    for part, name in PARTS.items():
        theirs = aside / f"shard-{number:05}-model-{part:05}-of-{largest:05}.safetensors"
        if theirs.exists():  # of copies, only one writes
            own.append(move(theirs, aside / f"{name}-{number:05}.safetensors"))
    return run_folder.describe_files(aside, own)


def first_failure(error: CheckpointException, path: Path) -> Exception:
    """Return what the lowest rank that failed met with, as an error that names the checkpoint."""
    failure, _ = error.failures[min(error.failures)]
    if isinstance(failure, OSError):
        return OSError(failure.errno, failure.strerror, str(path))
    return CheckpointError(f"{path} cannot be written: {failure}")


@contextmanager
def discarded_on_error(naming: ExitStack) -> Iterator[None]:
    """Remove the folder that is to be named unless all goes well."""
    try:
        yield
    except BaseException:
        discard(naming)
        raise


class Discarded(Exception):
    """Tells a folder that is to be named that it is not."""


def discard(naming: ExitStack) -> None:
    """Remove a folder instead of giving it its name."""
    with suppress(Discarded), naming:
        raise Discarded
