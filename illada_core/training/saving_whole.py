"""Checkpoints of whole tensors: of one process, or of adapters. Rank 0 writes them.

What a GPU holds is copied to its host, and written while training goes on. On a CPU there is no
second memory to copy to, and the cores are those that train: there the run waits.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from illada_core.model.finding import ADAPTERS, MODEL
from illada_core.model.weights import save_weights, write_tensors
from illada_core.training import run_folder
from illada_core.training.checkpoint import MOMENTS, Contents
from illada_core.training.lora import adapter_tensors
from illada_core.training.parallel import Ranks, failing_alike
from illada_core.training.sharding import whole


@dataclass(frozen=True)
class Underway:
    """The checkpoint of a step that is being written, by rank 0."""

    step: int
    written: "Future[Path] | None"


class WholeSaver:
    """Writes checkpoints; all ranks must ask it for the same things in the same order."""

    def __init__(self, run: Path, ranks: Ranks) -> None:
        self.run, self.ranks = run, ranks
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self.underway: Underway | None = None

    @property
    def is_writing(self) -> bool:
        """Whether this rank still has a file to write."""
        written = None if self.underway is None else self.underway.written
        return written is not None and not written.done()

    def begin(self, contents: Contents) -> None:
        """Begin to write a checkpoint of this moment, complete or not at all."""
        assert self.underway is None, "one checkpoint at a time"
        step, fill, written = contents.progress.step, filling(contents), None
        if self.ranks.is_main:
            write = partial(run_folder.write_checkpoint, self.run, step, fill, contents.state)
            written = self.thread.submit(write)
            if self.ranks.device.type == "cpu":
                wait([written])
        self.underway = Underway(step, written)

    def finish(self) -> int | None:
        """Wait until the checkpoint underway is complete; return its step, None if none is.

        Raises OSError on all ranks alike.
        """
        underway, self.underway = self.underway, None
        if underway is None:
            return None
        with failing_alike(self.ranks):
            if underway.written is not None:
                underway.written.result()
        return underway.step

    def close(self) -> None:
        """Wait for what is underway, complete or not."""
        self.thread.shutdown()


def filling(contents: Contents) -> Callable[[Path], None]:
    """Return what writes the tensors of a checkpoint into a folder; every rank must ask for it."""
    adapters = on_host(adapter_tensors(contents.model))
    weights = {} if adapters else on_host(contents.model.state_dict())
    moments = on_host(contents.moments())

    def fill(folder: Path) -> None:
        if adapters:
            write_tensors(adapters, folder / ADAPTERS)
        else:
            config = contents.model.config
            save_weights(weights.__getitem__, config, folder / MODEL, contents.export)
        write_tensors(moments, folder / f"{MOMENTS}.safetensors")

    return fill


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole tensors on the host; every rank must ask for them."""
    return {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in tensors.items()}
