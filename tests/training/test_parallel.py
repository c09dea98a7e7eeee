"""Two ranks are one rank: the same rows, the same noise, the same losses up to rounding."""

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.model.finding import newest_checkpoint
from illada_core.training.loop import decide_decay
from illada_core.training.metrics import read_lines
from illada_core.training.parallel import Ranks, buckets, choose_device
from illada_core.training.recipe.files import to_toml
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.source import row_source
from illada_core.training.step import likelihood_bound, train_step
from tests.conftest import command_environment
from tests.training.test_loop import CPU
from tests.training.tiny import tiny_recipe, write_conversations, write_packed

TURNS = ("objective.mask=turn", "objective.normalize=length", "run.total_tokens=768")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_on(world, recipe_file, run):
    """Start `illada pretrain` as torchrun does, in `world` processes."""
    command = [sys.executable, "-m", "illada_cli", "pretrain", str(recipe_file), "-o", str(run)]
    return start_all(world, command)


def start_all(world, command):
    """Start a command once for each rank."""
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


def train_on(world, recipe_file, run):
    """Train in `world` processes; return what each said, and the metrics."""
    processes = start_on(world, recipe_file, run)
    told = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * world, told
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return told, lines


@pytest.mark.parametrize("rows", [4, 3])
def test_two_ranks_are_one_rank(recipe, tmp_path, rows):
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(recipe(f"batch.rows={rows}", "run.total_tokens=1152")))
    _, alone = train_on(1, file, tmp_path / "alone")
    told, together = train_on(2, file, tmp_path / "together")
    assert len(alone) == len(together)
    for one, two in zip(alone, together, strict=True):
        assert (one["kind"], one["step"], one["tokens"]) == (
            two["kind"],
            two["step"],
            two["tokens"],
        )
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)
        assert two.get("grad_norm", 0.0) == pytest.approx(one.get("grad_norm", 0.0), rel=1e-3)
    assert told[0][0].strip() == str(tmp_path / "together" / "model")
    assert told[1] == ("", "")


def test_two_ranks_are_one_rank_whatever_can_be_hidden(tmp_path):
    packed = write_packed(tmp_path / "chats", write=write_conversations)
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(tiny_recipe(packed, "batch.rows=3", *TURNS)))
    (_, alone), (_, together) = (train_on(n, file, tmp_path / f"run{n}") for n in (1, 2))
    for one, two in zip(alone, together, strict=True):
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)


@pytest.mark.parametrize(
    ("rank", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)]
)
def test_a_signal_to_one_rank_stops_all_with_its_code(recipe, tmp_path, rank, number):
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(recipe("run.total_tokens=1e8", "log.curves=false")))
    processes = start_on(2, file, tmp_path / "run")
    try:
        metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
        while not metrics.exists() or metrics.stat().st_size == 0:
            assert time.monotonic() < deadline, "no step in time"
            time.sleep(0.01)
        processes[rank].send_signal(number)
        told = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [128 + number] * 2, told
    last = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert f"illada: stopped after step {last}" in told[0][1]
    assert told[1] == ("", "")
    assert newest_checkpoint(tmp_path / "run").name == f"step-{last:09d}"


STEP_ON_TWO_RANKS = """
import sys
from pathlib import Path
import torch
from illada_core.training.parallel import join_ranks
from illada_core.training.recipe.files import load_recipe
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.source import row_source
from illada_core.training.step import likelihood_bound, train_step
from tests.training.test_parallel import first_step

recipe, folder, out = (Path(each) for each in sys.argv[1:])
setup = prepare(load_recipe(recipe))
with join_ranks("cpu") as ranks, open_session(setup, folder, ranks, fresh=False) as session:
    torch.save(first_step(session), f"{out}-{ranks.rank}.pt")
"""


def first_step(session):
    """Make a step; return its forwards, the gradients before the update, and the result."""
    forwards, gradients = [], []
    parameters = list(session.denoiser.parameters())
    session.denoiser.register_forward_pre_hook(lambda *_: forwards.append(1))
    session.optimizer.register_step_pre_hook(
        lambda *_: gradients.extend(parameter.grad.clone() for parameter in parameters)
    )
    source = row_source(session.setup.train, session.corruption, session.share)(0)
    result = train_step(
        session.denoiser, session.optimizer, next(source), likelihood_bound, 96, 0.0, session.ranks
    )
    source.close()
    return len(forwards), gradients, result.loss, result.token_pairs, result.head_rows


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ranks_run_as_many_forwards_and_their_gradients_are_the_plain_sum(recipe, tmp_path, dtype):
    """Three rows on two ranks, one at a time: a phantom stands in for the fourth."""
    keys = ("batch.rows=3", "batch.micro_rows=1", f"run.compute_dtype={dtype}")
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(recipe(*keys)))
    command = [sys.executable, "-c", STEP_ON_TWO_RANKS, str(file)]
    processes = start_all(2, [*command, str(tmp_path / "run"), str(tmp_path / "found")])
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    found = [torch.load(tmp_path / f"found-{rank}.pt", weights_only=True) for rank in range(2)]

    with open_session(prepare(recipe(*keys)), tmp_path / "alone", CPU, fresh=False) as session:
        parts = []
        for rank in range(2):
            share = replace(session.share, rank=rank, world=2)
            source = row_source(session.setup.train, session.corruption, share)(0)
            rows = [noisy for noisy in next(source) if noisy.tokens]
            source.close()
            parts.append(plain_gradients(session.denoiser, rows, 96))
    assert [rank[0] for rank in found] == [2, 2]
    for number, gradient in enumerate(first + second for first, second in zip(*parts, strict=True)):
        for rank in found:
            assert torch.equal(rank[1][number], gradient)
    assert found[0][2:] == found[1][2:]


def plain_gradients(denoiser, micro_batches, count):
    """Return what autograd sums up over some micro-batches."""
    denoiser.zero_grad()
    for noisy in micro_batches:
        (denoiser(noisy).nats / count).backward()
    return [parameter.grad.clone() for parameter in denoiser.parameters()]


def test_ranks_validate_and_answer_together_and_one_of_them_writes(tmp_path):
    """Five held-out rows on two ranks; answers are the same as on one, each written once."""
    packed = write_packed(tmp_path / "chats", write=write_conversations)
    file = tmp_path / "tiny.toml"
    keys = ("validation.rows=5", "validation.every_steps=3", "validation.sample_every=3")
    more = ("validation.samples=3", "generation.max_new_tokens=10", "generation.block_length=4")
    changes = ("batch.rows=3", "batch.micro_rows=1", "run.total_tokens=768", *keys, *more)
    file.write_text(to_toml(tiny_recipe(packed, *changes)))
    (_, alone), (_, together) = (train_on(n, file, tmp_path / f"run{n}") for n in (1, 2))
    for one, two in zip(alone, together, strict=True):
        assert two.get("loss", 0.0) == pytest.approx(one.get("loss", 0.0), rel=1e-4)
    answers = [read_lines(tmp_path / f"run{n}" / "samples.jsonl") for n in (1, 2)]
    assert len(answers[1]) == 9
    assert [line["step"] for line in answers[1]] == [line["step"] for line in answers[0]]


def test_a_request_that_cannot_be_met_is_noticed_once(recipe, tmp_path):
    """Each rank meets the request; only one of them talks."""
    asked = recipe("schedule.decay=none", "run.total_tokens=256", "schedule.decay_share=0")
    with open_session(prepare(asked), tmp_path / "run", CPU, fresh=False) as session:
        assert len(list(decide_decay(session, requested=True))) == 1
        session.ranks = Ranks(rank=1, world=2, device=CPU.device)
        assert list(decide_decay(session, requested=True)) == []


def test_buckets_hold_every_parameter_once_in_order():
    parameters = [torch.zeros(size) for size in (1 << 24, 5, 1 << 25, 7)]
    found = list(buckets(parameters))
    assert [len(bucket) for bucket in found] == [1, 2, 1]
    assert [id(each) for bucket in found for each in bucket] == [id(each) for each in parameters]


@pytest.mark.parametrize("wanted", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_devices_that_are_not_there_are_usage_errors(wanted):
    with pytest.raises(UsageError, match=r"run\.device"):
        choose_device(wanted, local_rank=0)
