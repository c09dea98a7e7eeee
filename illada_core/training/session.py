"""A run that is under way: its model, optimizer and progress, opened, saved and exported.

The loop (loop.py) decides what happens when; here is what it acts on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import DeviceMesh

from illada_core.data.batches import Share
from illada_core.data.mixture import Mixture, Phase
from illada_core.data.store.dataset import TokenDataset
from illada_core.diffusion.corruption import Corruption
from illada_core.diffusion.denoiser import Denoiser
from illada_core.errors import UsageError
from illada_core.files import write_file, writing_folder
from illada_core.model.attention import choose_backend
from illada_core.model.finding import MODEL, RECIPE, find_model, newest_checkpoint
from illada_core.model.layouts import own_layout
from illada_core.model.stored import DTYPES
from illada_core.model.transformer import Transformer
from illada_core.model.weights import Export
from illada_core.training import mixing, run_folder, stretches
from illada_core.training.casting import cast_once, holds_masters
from illada_core.training.checkpoint import (
    Contents,
    Progress,
    load_moments,
)
from illada_core.training.exporting import export_model
from illada_core.training.health import check_health
from illada_core.training.lora import base_fingerprint, layout_tensors, write_adapters
from illada_core.training.memory import check_memory
from illada_core.training.metrics import Metrics, device_name, record_start
from illada_core.training.mirror import Mirror, restore
from illada_core.training.optim import new_optimizer
from illada_core.training.parallel import (
    COPY_WAIT,
    LONG_WAIT,
    Ranks,
    failing_alike,
    limit_waiting,
    sum_over_ranks,
)
from illada_core.training.past import Past, circumstances, read_past
from illada_core.training.recipe.files import differing_keys, load_recipe, to_toml
from illada_core.training.recipe.footprint import choose_shard
from illada_core.training.recipe.keys import Recipe
from illada_core.training.recipe.plan import known_kind
from illada_core.training.resuming import Launch, found_again
from illada_core.training.samples import Samples
from illada_core.training.saving_whole import WholeSaver
from illada_core.training.setup import Setup
from illada_core.training.sharding import rank_mesh
from illada_core.training.starting import starting_denoiser
from illada_core.training.stretches import STRETCH, Stretch
from illada_core.training.trackers import open_trackers

if TYPE_CHECKING:
    from illada_core.training.saving import Saver


@dataclass
class Session:
    """What changes while a run goes on, and what it acts with.

    `shard` ranks share a copy of the model, and all of them are the mesh, None for one process;
    `saver` writes checkpoints, whole or in shards. `metrics` are rank 0's alone;
    `stopped_by` is the signal that ended the run before its time, `base` the fingerprint of the
    weights that adapters belong to.
    """

    setup: Setup
    run: Path
    ranks: Ranks
    denoiser: Denoiser
    optimizer: torch.optim.AdamW
    corruption: Corruption
    attention: str
    attention_reason: str
    peak_flops: float | None
    progress: Progress
    saved_at: Path | None
    shard: int
    mesh: DeviceMesh | None
    saver: "Saver | WholeSaver"
    mirror: Mirror | None
    metrics: Metrics | None
    samples: Samples | None
    remarks: tuple[str, ...]
    base: str | None
    phases: list[Phase]
    stretches: tuple[Stretch, ...]
    stopped_by: int = 0

    @property
    def model(self) -> Transformer:
        return self.denoiser.transformer

    @cached_property
    def rows(self) -> TokenDataset | Mixture:
        """What the run is trained on: the rows of a dataset, or of several."""
        setup = self.setup
        if not self.phases:
            return setup.train
        return Mixture(tuple(self.phases), setup.sources, setup.recipe.run.seed)

    @property
    def is_writing(self) -> bool:
        """Whether this rank has a part of a checkpoint yet to write."""
        return self.saver.is_writing

    @property
    def share(self) -> Share:
        """What this rank has of each step's rows."""
        keys, ranks = self.setup.recipe.batch, self.ranks
        origin = stretches.place_after(self.stretches, 0)
        return Share(keys.rows, keys.micro_rows, ranks.rank, ranks.world, origin)

    def write(self, kind: str, step: int, **values: object) -> None:
        """Add a line to the metrics, on rank 0."""
        if self.metrics is not None:
            self.metrics.write(kind, step, tokens=self.progress.tokens, **values)

    def limit_waiting(self, limit: timedelta) -> None:
        """Let ranks wait for each other at most so long, from now on, in all but saving."""
        if self.mesh is not None:
            limit_waiting(self.mesh, limit)

    def sync(self) -> None:
        """Wait until the lines up to here are on the disk: a checkpoint stands for them all."""
        for told in (self.metrics, self.samples):
            if told is not None:
                told.sync()

    def begin_save(self) -> None:
        """Begin to write a checkpoint of this moment."""
        self.sync()
        facts = {
            "dataset": self.setup.train.fingerprint,
            **mixing.told_of(self.phases),
            **stretches.told_of(self.stretches),
            "base": self.base,
            **circumstances(self.ranks, self.shard),
        }
        contents = Contents(
            self.model, self.optimizer, self.progress, facts, self.exported("float32")
        )
        self.saver.begin(contents)

    def finish_save(self) -> int | None:
        """Wait for the checkpoint that was begun; return its step, None if there is none."""
        step = self.saver.finish()
        return None if step is None else self.keep(step)

    def keep(self, step: int) -> int:
        """Take note of a complete checkpoint, and delete those that need not be kept."""
        self.saved_at = run_folder.checkpoint_path(self.run, step)
        if self.ranks.is_main:
            run_folder.prune_checkpoints(self.run, self.setup.recipe.checkpoint)
        return step

    def begin_copy(self, step: int) -> None:
        """Begin to copy a checkpoint to the mirror, if there is one.

        Raises on all ranks alike what an earlier copy met with.
        """
        if self.mirror is not None:
            with failing_alike(self.ranks):
                if self.ranks.is_main:
                    self.mirror.begin(step)

    def finish_copies(self) -> None:
        """Wait until all is at the mirror. Raises on all ranks alike what a copy met with."""
        if self.mirror is not None:
            self.limit_waiting(COPY_WAIT)
            with failing_alike(self.ranks):
                if self.ranks.is_main:
                    self.mirror.finish()

    def exported(self, dtype: str) -> Export:
        """Say how weights are written."""
        return Export(
            layout=own_layout(self.setup.config),
            tokenizer=self.setup.tokenizer_file,
            dtype=dtype,
            generation=self.setup.defaults.facts(),
        )

    def export(self) -> Path:
        """Write `model/` in the released layout, in the dtype the model computes in.

        Adapters are merged into it, and lie beside it as peft reads them.
        """
        folder, export = self.run / MODEL, self.exported(self.setup.recipe.run.compute_dtype)
        is_done = self.metrics is not None and self.metrics.finished_step == self.progress.step
        is_done = is_done and folder.is_dir()
        if not any(sum_over_ranks(self.ranks, is_done)):
            export_model(self.model, folder, export, self.ranks)
            if self.base is not None:
                adapters = layout_tensors(self.model)
                if self.ranks.is_main:
                    recipe = self.setup.recipe
                    write_adapters(
                        adapters, self.run / run_folder.ADAPTER, recipe.lora, recipe.model.ckpt
                    )
            self.write("finished", self.progress.step)
        return folder


@contextmanager
def open_session(
    setup: Setup, run: Path, ranks: Ranks, fresh: bool, launch: Launch | None = None
) -> Iterator[Session]:
    """Begin a run in its folder, or take it up where its newest checkpoint left it.

    Raises UsageError if the folder holds another run, CheckpointError if the checkpoint is damaged.
    """
    keys = setup.recipe.run
    check_memory(setup, ranks)
    shard = choose_shard(setup.recipe.parallel.shard, ranks.world, ranks.local_world)
    mesh = rank_mesh(ranks, shard) if ranks.world > 1 else None
    with ExitStack() as stack:
        if mesh is not None:
            limit_waiting(mesh, COPY_WAIT if setup.recipe.checkpoint.mirror else LONG_WAIT)
        with failing_alike(ranks):  # the others wait here until the folder is in order
            if ranks.is_main:
                run_folder.refuse_foreign(run)
                stack.enter_context(writing_folder(run))
                refuse_another_recipe(run, setup.recipe, fresh)
        checkpoint = newest_checkpoint(run)
        if keys.threads:
            torch.set_num_threads(keys.threads)
        remarks, base = list(setup.remarks), adapted_base(setup)
        if mesh is not None:
            limit_waiting(mesh, LONG_WAIT)
            remarks += check_health(ranks, mesh) if setup.recipe.parallel.check_health else []
        past = read_past(setup, checkpoint, base, ranks, shard)
        setup, progress = replace(setup, schedule=past.schedule), past.progress
        if checkpoint is not None and ranks.is_main:
            # What a run has not deleted that was killed after it had saved.
            run_folder.prune_checkpoints(run, setup.recipe.checkpoint)
        compute_dtype = DTYPES[keys.compute_dtype]
        config = setup.config
        backend, reason = choose_backend(
            ranks.device, compute_dtype, keys.attention, config.head_size, config.is_causal
        )
        denoiser = starting_denoiser(setup, checkpoint, ranks, mesh, backend)
        optimizer = new_optimizer(denoiser, setup.recipe.optimizer)
        if mesh is None and holds_masters(setup.recipe):
            cast_once(denoiser.transformer, optimizer)
        if past.moments is not None:
            load_moments(past.moments, denoiser.transformer, optimizer, progress.updates)
        metrics = samples = None
        if ranks.is_main:
            record_start(run, progress.step, ranks, backend, launch)
            write_file(run / RECIPE, to_toml(setup.recipe).encode())
            trackers = open_trackers(run, progress.step, setup.recipe)
            metrics = Metrics(run, progress.step, trackers)
            stack.callback(metrics.close)
            write_changes(metrics, setup, past)
        if setup.prompts:
            samples = Samples(run, progress.step, setup, ranks)
            stack.callback(samples.close)
        saver = new_saver(setup, run, ranks)
        stack.callback(saver.close)
        mirror = Mirror(run, setup.recipe.checkpoint) if setup.recipe.checkpoint.mirror else None
        if mirror is not None:
            stack.callback(mirror.close)
        session = Session(
            setup=setup,
            run=run,
            ranks=ranks,
            denoiser=denoiser,
            optimizer=optimizer,
            corruption=Corruption(
                **vars(setup.recipe.objective),
                mask_id=mask_id(setup),
                seed=keys.seed,
                shift=config.shift,
                anneal_rows=round(setup.recipe.schedule.anneal_tokens / setup.row_tokens),
            ),
            attention=backend,
            attention_reason=reason,
            peak_flops=peak_flops(setup.recipe, ranks.device),
            progress=progress,
            saved_at=checkpoint,
            shard=shard,
            mesh=mesh,
            saver=saver,
            mirror=mirror,
            metrics=metrics,
            samples=samples,
            remarks=(*remarks, *past.remarks) if ranks.is_main else (),
            base=base,
            phases=past.phases,
            stretches=past.stretches,
        )
        yield session
        session.finish_copies()


def new_saver(setup: Setup, run: Path, ranks: Ranks) -> "Saver | WholeSaver":
    """Return what writes the checkpoints of a run: in shards where ranks share the model."""
    if ranks.world == 1 or setup.recipe.lora.rank:
        return WholeSaver(run, ranks)
    from illada_core.training.saving import Saver  # it loads torch's checkpoints, and takes a while

    return Saver(run, ranks)


def refuse_another_recipe(run: Path, recipe: Recipe, fresh: bool) -> None:
    """Clear a folder up, and raise UsageError if it holds a run of another recipe.

    Another one differs in a key that a resume may not change.
    """
    run_folder.remove_leftovers(run)
    if fresh:
        run_folder.start_over(run)
    if recipe.checkpoint.mirror:
        restore(run, recipe.checkpoint.mirror, fresh)
    path = run / RECIPE
    if not path.exists():
        return
    before = load_recipe(path)
    here = found_again(before, before, run)  # a base may go by another path than it did
    keys = differing_keys(before, recipe)
    if keys := [name for name in keys if name in differing_keys(here, recipe)]:
        raise UsageError(
            f"{run} holds a run of another recipe: {', '.join(keys)} changed",
            "give the recipe it began with, another folder with -o, or --fresh to replace it",
        )


def write_changes(metrics: Metrics, setup: Setup, past: Past) -> None:
    """Add lines that tell what is new from the next step on: settings, and the mixture."""
    step, tokens = past.progress.step + 1, past.progress.tokens
    if past.changes:
        metrics.write(STRETCH, step, tokens=tokens, changed=past.changes)
    if past.is_new_mixture:
        metrics.write(mixing.MIXTURE, step, tokens=tokens, sources=mixing.shares(setup))


def adapted_base(setup: Setup) -> str | None:
    """Return the fingerprint of the base that adapters are trained for, None without adapters."""
    if not setup.recipe.lora.rank:
        return None
    return base_fingerprint(find_model(setup.recipe.model.ckpt))


def mask_id(setup: Setup) -> int:
    assert setup.config.mask_id is not None, "checked when the data was opened"
    return setup.config.mask_id


def peak_flops(recipe: Recipe, device: torch.device) -> float | None:
    """Return the peak of one device in FLOP/s: given, else looked up by name, else None."""
    if recipe.run.peak_tflops:
        return recipe.run.peak_tflops * 1e12
    kind = known_kind(device_name(device))
    return kind.peak_flops if kind else None
