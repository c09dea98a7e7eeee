"""What tests ask of several ranks: scenarios, played in processes that are started once.

    python -m tests.training.on_ranks FOLDER SCENARIO …

Every rank leaves what it found in FOLDER/REPORT-RANK.pt. FOLDER has packed rows and conversations.
"""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.checkpoint import HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from illada_core.diffusion.denoiser import Sums
from illada_core.errors import IlladaError
from illada_core.training import health
from illada_core.training.events import Noticed, Saved, StepDone
from illada_core.training.parallel import join_ranks
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.sharding import local_part, whole, without_gradients
from illada_core.training.source import row_source
from illada_core.training.step import StepResult, likelihood_bound, train_step
from tests.conftest import command_environment
from tests.training.test_loop import run_training
from tests.training.tiny import tiny_recipe

KINDS = [(dtype, tied) for dtype in ("float32", "bfloat16") for tied in (True, False)]
# Five rows are shared out by no number of ranks, validation and answers fall between steps.
CURVE = (
    "objective.mask=turn",
    "objective.normalize=length",
    "batch.rows=5",
    "batch.micro_rows=1",
    "run.total_tokens=1280",
    "validation.rows=5",
    "validation.every_steps=3",
    "checkpoint.every_steps=2",
    "checkpoint.keep_last=9",
)
ANSWERS = (
    "validation.sample_every=3",
    "validation.samples=3",
    "generation.max_new_tokens=10",
    "generation.block_length=4",
)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_all(world, command):
    """Start a command once for each rank, as torchrun does."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    return [
        subprocess.Popen(
            command,
            env=command_environment(**place, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def play(world, folder, *scenarios, module="tests.training.on_ranks", codes=None):
    """Play scenarios of a module on some ranks; return what each rank found, by scenario.

    `codes` are those that the ranks end with, where that is not 0.
    """
    command = [sys.executable, "-m", module, str(folder), *scenarios]
    processes = start_all(world, command)
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == (codes or [0] * world), told
    return [torch.load(folder / f"report-{rank}.pt", weights_only=True) for rank in range(world)]


def curve_recipe(folder, *changes):
    return tiny_recipe(folder / "chats", *CURVE, *ANSWERS, *changes)


def mixed_recipe(folder, *weights):
    """Return a recipe of rows of two datasets, five to a step."""
    entries = zip(("packed", "chats"), weights, strict=True)
    mixture = tuple(f"{folder / name}={weight}" for name, weight in entries)
    recipe = tiny_recipe(folder / "packed", "batch.rows=5", "validation.every_steps=3")
    return replace(recipe, data=replace(recipe.data, path="", mixture=mixture))


def first_step(session, objective=likelihood_bound):
    """Make a step; return its forwards, the whole gradients before the update, and the result."""
    forwards, gradients = [], []
    parameters = list(session.denoiser.parameters())
    session.denoiser.register_forward_pre_hook(lambda *_: forwards.append(1))
    session.optimizer.register_step_pre_hook(
        lambda *_: gradients.extend(whole(parameter.grad).clone() for parameter in parameters)
    )
    source = row_source(session.setup.train, session.corruption, session.share)(0)
    fetched = train_step(
        session.denoiser, session.optimizer, next(source), objective, 96, 0.0, session.ranks
    )
    result = StepResult.of(fetched)
    source.close()
    return len(forwards), gradients, result.loss, result.token_pairs, result.head_rows


def gradients_of(folder, ranks, *changes):
    """Return the first step in each kind of arithmetic, three rows one at a time."""
    found = {}
    for dtype, tied in KINDS:
        keys = (f"run.compute_dtype={dtype}", f"model.tied={str(tied).lower()}")
        asked = tiny_recipe(
            folder / "packed", "batch.rows=3", "batch.micro_rows=1", *keys, *changes
        )
        run = folder / f"gradients-{ranks.world}-{dtype}-{tied}{''.join(changes)}"
        with open_session(prepare(asked), run, ranks, fresh=True) as session:
            found[f"{dtype} {tied}"] = first_step(session)
    return found


def gradients(folder, ranks):
    return gradients_of(folder, ranks)


def copies(folder, ranks):
    """Two copies of the model, each in shards."""
    return gradients_of(folder, ranks, "parallel.shard=2")


def selective(folder, ranks):
    """With layers of which the backward pass computes a part again."""
    return gradients_of(folder, ranks, "run.recompute=selective")


def full(folder, ranks):
    return gradients_of(folder, ranks, "run.recompute=full")


def curve(folder, ranks):
    """A run from end to end, and one that stops and goes on."""
    run_training(curve_recipe(folder), folder / f"whole-{ranks.world}", ranks=ranks)
    parts = folder / f"parts-{ranks.world}"
    run_training(curve_recipe(folder), parts, stop_after=4, ranks=ranks)
    run_training(curve_recipe(folder), parts, ranks=ranks)


def stretched(folder, ranks):
    """A run whose steps take another number of rows after each stop."""
    for rows, stop_after in ((5, 3), (7, 5), (2, None)):
        asked = tiny_recipe(folder / "chats", *CURVE, f"batch.rows={rows}")
        run_training(asked, folder / f"stretched-{ranks.world}", stop_after, ranks=ranks)


def stretched_elsewhere(folder, ranks):
    """Take up what two ranks have left, with another number of rows in a step."""
    run = folder / f"stretched-2-on-{ranks.world}"
    run_training(curve_recipe(folder, "batch.rows=7"), run, ranks=ranks)


def copied_curve(folder, ranks):
    """The same, by two copies of the model."""
    asked = curve_recipe(folder, "parallel.shard=2")
    run_training(asked, folder / "copied", stop_after=4, ranks=ranks)
    run_training(asked, folder / "copied", ranks=ranks)


def stopped(folder, ranks):
    run_training(curve_recipe(folder), folder / "stopped", stop_after=4, ranks=ranks)


def going_on(folder, ranks):
    """Take up what other ranks have left."""
    for run in sorted(folder.glob(f"resumed-*-on-{ranks.world}")):
        run_training(curve_recipe(folder), run, ranks=ranks)


def mixed(folder, ranks):
    """A run on a mixture, which changes where it was stopped."""
    run = folder / f"mixed-{ranks.world}"
    run_training(mixed_recipe(folder, 3, 1), run, stop_after=4, ranks=ranks)
    run_training(mixed_recipe(folder, 1, 3), run, ranks=ranks)


def damaged(folder, ranks):
    """Say what is told of a checkpoint with a byte changed."""
    try:
        with open_session(prepare(curve_recipe(folder)), folder / "damaged", ranks, False):
            return None
    except IlladaError as error:
        return type(error).__name__, error.sentence, error.hint


def refused(folder, ranks):
    """Say what is told of a run of another recipe, and of one whose decay has begun."""
    told = []
    for change in ("run.seed=7", "run.total_tokens=2560"):
        setup = prepare(curve_recipe(folder, change))
        try:
            with open_session(setup, folder / "whole-2", ranks, fresh=False):
                told.append(None)
        except IlladaError as error:
            told.append((error.code, error.sentence.rpartition(": ")[2]))
    return told


def bad_gradient(folder, ranks):
    """Let the last rank's gradient be no number; say whether weights or moments changed."""

    def objective(denoiser, noisy):
        nats, nll_M = denoiser(noisy)
        if ranks.rank == ranks.world - 1 and steps:
            nats.register_hook(lambda gradient: gradient * float("nan"))
        return Sums(nats, nll_M)

    steps = []
    setup = prepare(tiny_recipe(folder / "packed"))
    with open_session(setup, folder / "bad", ranks, fresh=True) as session:
        source = row_source(session.setup.train, session.corruption, session.share)(0)
        kept = []
        for _ in range(2):
            fetched = train_step(
                session.denoiser, session.optimizer, next(source), objective, 96, 1.0, ranks
            )
            steps.append(StepResult.of(fetched).is_finite)
            kept.append(
                [
                    local_part(tensor).clone()
                    for parameter in session.denoiser.parameters()
                    for tensor in (parameter.detach(), *session.optimizer.state[parameter].values())
                ]
            )
        source.close()
    return steps, all(torch.equal(*pair) for pair in zip(*kept, strict=True))


def looked_at(folder, ranks):
    """Say whether the root is in shards before and after it was asked without a gradient."""
    setup = prepare(tiny_recipe(folder / "packed"))
    with open_session(setup, folder / "looked", ranks, fresh=True) as session:
        source = row_source(session.setup.train, session.corruption, session.share)(0)
        table, noisy = session.model.embedding, next(source)[0]
        source.close()
        before = isinstance(table.weight, DTensor)
        with without_gradients(session.denoiser):
            session.denoiser(noisy)
            assert not isinstance(table.weight, DTensor)
        held = sum(local_part(each).numel() for each in session.model.parameters())
        return before, isinstance(table.weight, DTensor), held


def unfit(folder, ranks):
    """Return what is told of ranks all of which are slower than they have to be, and if unasked."""
    told, fit = [], health.TRIALS["cpu"]
    health.TRIALS["cpu"] = replace(fit, least_share=9.0)
    for checks in ("true", "false"):
        asked = tiny_recipe(folder / "packed", f"parallel.check_health={checks}")
        with open_session(prepare(asked), folder / "unfit", ranks, fresh=True) as session:
            told.append([remark for remark in session.remarks if "usual rate" in remark])
    health.TRIALS["cpu"] = fit
    return told


def slow_save(folder, ranks):
    """Return the events of a run whose checkpoints take longer than steps, as names and steps."""
    with patched_writer(lambda path: time.sleep(0.2)):
        events = run_training(curve_recipe(folder), folder / "slow", ranks=ranks)
    kinds = (StepDone, Saved)
    return [(type(each).__name__, each.step) for each in events if isinstance(each, kinds)]


def full_disk(folder, ranks):
    """Say how a run goes on, or ends, whose last rank finds the disk full at step 4."""

    def fill_up(path):
        if "step-000000004" in str(path) and ranks.rank == ranks.world - 1:
            raise OSError(28, "No space left on device", str(path))

    told = {}
    for choice in ("continue", "stop"):
        asked = curve_recipe(folder, f"checkpoint.on_error={choice}")
        try:
            with patched_writer(fill_up):
                events = run_training(asked, folder / f"full-{choice}", ranks=ranks)
            told[choice] = [each.sentence for each in events if isinstance(each, Noticed)]
        except OSError as error:
            told[choice] = [str(error)]
    return told


@contextmanager
def patched_writer(first):
    """Do something first whenever this rank writes its part of a checkpoint."""
    write = HuggingFaceStorageWriter.write_data

    def write_data(self, *arguments):
        first(self.path)
        return write(self, *arguments)

    HuggingFaceStorageWriter.write_data = write_data
    try:
        yield
    finally:
        HuggingFaceStorageWriter.write_data = write


def adapters(folder, ranks):
    """Adapters on a base in shards, which stop and go on."""
    asked = adapted_recipe(folder)
    run_training(asked, folder / f"adapted-{ranks.world}", ranks=ranks)
    run_training(asked, folder / f"adapted-parts-{ranks.world}", stop_after=2, ranks=ranks)
    run_training(asked, folder / f"adapted-parts-{ranks.world}", ranks=ranks)


def adapted_recipe(folder):
    """Return a recipe of adapters whose rows no two ranks can share out evenly."""
    sizes = ("layers", "width", "heads", "kv_heads", "ffn_size", "max_length")
    keys = ("lora.rank=3", "run.compute_dtype=bfloat16", "batch.rows=5", "run.total_tokens=640")
    base = (*(f"model.{name}=0" for name in sizes), f"model.ckpt={folder / 'whole-1'}")
    return tiny_recipe(folder / "chats", *base, *keys)


def take_part(scenarios):
    """Play the scenarios that the command line names, as one rank, and report after each."""
    folder, names, report = Path(sys.argv[1]), sys.argv[2:], {}
    with join_ranks("cpu") as ranks:
        for name in names:
            report[name] = scenarios[name](folder, ranks)
            torch.save(report, folder / f"report-{ranks.rank}.pt")


if __name__ == "__main__":
    take_part(globals())
