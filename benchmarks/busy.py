"""Speed beside processes that use the same cores, by how OpenMP's threads wait for each other.

    python benchmarks/busy.py [--loads 0 1 2 4] [--seconds 4] [--rounds 2] [--only "generate tiny"]

Threads that wait spin, in the hope that work comes soon; where another process has the core, they
spin in the place of the one they wait for. How long is said by the environment before torch is
loaded, so each way has a process of its own, which builds the same models and then works when it is
asked. For each load, that many processes spin; the ways take turns, the others sleep meanwhile.
Printed are tokens a second (medians of the rounds) and, in brackets, the share of the best way's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from illada_cli.cores import share_cores

CHILD = "--work"
# Setting to environment. "ours" is what the command sets by itself.
WAYS = {
    "ours": {"BUSY_OURS": "1"},
    "torch's own": {},
    "spin 10^3": {"GOMP_SPINCOUNT": "1000"},
    "spin 10^4": {"GOMP_SPINCOUNT": "10000"},
    "spin 3*10^4": {"GOMP_SPINCOUNT": "30000"},
    "spin 10^5": {"GOMP_SPINCOUNT": "100000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SIZES = {"tiny": (192, 4, 6, 512, 8192), "100M": (768, 12, 12, 2688, 32768)}
KINDS = ("generate", "train")
MASK_ID = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--loads", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[f"{k} {s}" for s in SIZES for k in KINDS])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument(CHILD, action="store_true", dest="work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    for name in arguments.only:
        with children(name, arguments.ways) as ask:
            for load in arguments.loads:
                rates: dict[str, list[float]] = {way: [] for way in arguments.ways}
                with spinning(load):
                    for _ in range(arguments.rounds):
                        for way in arguments.ways:
                            rates[way].append(ask(way, arguments.seconds))
                show(name, load, {way: statistics.median(found) for way, found in rates.items()})


def show(name: str, load: int, rates: dict[str, float]) -> None:
    """Print one line: the rate of each way, and its share of the best."""
    best = max(rates.values())
    cells = [f"{way} {rate:,.0f} ({rate / best:.2f})" for way, rate in rates.items()]
    print(f"{name}, {load} beside: {' | '.join(cells)}", flush=True)


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep that many processes spinning."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.5 if loops else 0)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def children(name: str, ways: list[str]) -> Iterator[Callable[[str, float], float]]:
    """Start a process for each way; give a function that lets one work for some seconds."""
    known = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP"))}
    started = {
        way: subprocess.Popen(
            [sys.executable, __file__, CHILD],
            env={**known, "PYTHONPATH": str(Path(__file__).parents[1]), **WAYS[way]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for way in ways
    }

    def ask(way: str, seconds: float) -> float:
        child = started[way]
        assert child.stdin
        assert child.stdout
        print(json.dumps([name, seconds]), file=child.stdin, flush=True)
        return float(child.stdout.readline())

    try:
        for way in ways:
            ask(way, 0.5)
        yield ask
    finally:
        for child in started.values():
            child.kill()
            child.wait()


def work() -> None:
    """Do what is asked, line by line: a workload and seconds in, tokens a second out."""
    if os.environ.get("BUSY_OURS"):
        share_cores()
    made: dict[str, Callable[[], int]] = {}
    for line in sys.stdin:
        name, seconds = json.loads(line)
        if name not in made:
            kind, size = name.split()
            made[name] = (generating if kind == "generate" else training)(size)
        tokens, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            tokens += made[name]()
        print(tokens / (time.perf_counter() - begun), flush=True)


def config_of(size: str):  # type: ignore[no-untyped-def]
    """Return the shape of a model; torch is loaded by those who ask, not before."""
    from illada_core.model.config import ModelConfig

    width, layers, heads, ffn_size, vocab_size = SIZES[size]
    return ModelConfig(
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads // 2,
        head_size=width // heads,
        ffn_size=ffn_size,
        max_length=1024,
        mask_id=MASK_ID,
    )


def generating(size: str) -> Callable[[], int]:
    """Return a function that fills a block of 8 tokens after 64, and how many that were."""
    from illada_core.inference.canvas import continuation
    from illada_core.inference.rules import ModelIds
    from illada_core.inference.sampler import Sampler, generate
    from illada_core.inference.settings import Settings
    from illada_core.model.initial import new_model

    model = new_model(config_of(size), seed=0).requires_grad_(False)
    sampler = Sampler(model.logits_at, ModelIds(MASK_ID))
    prompt = [10 + place % 100 for place in range(64)]

    def run() -> int:
        task = continuation(prompt, 8, grows=False)
        generate(sampler, [task], Settings(block_length=8))
        return 8

    return run


def training(size: str) -> Callable[[], int]:
    """Return a function that takes a step on 4 rows of 256 tokens, and how many that were."""
    import numpy as np
    import torch

    from illada_core.data.batches import Batch
    from illada_core.diffusion.corruption import Corruption, corrupt
    from illada_core.diffusion.denoiser import Denoiser
    from illada_core.model.attention import choose_backend
    from illada_core.model.initial import new_model
    from illada_core.training.optim import new_optimizer
    from illada_core.training.parallel import Ranks
    from illada_core.training.recipe.keys import OptimizerKeys
    from illada_core.training.step import likelihood_bound, train_step

    rows, length, config = 4, 256, config_of(size)
    ids_T = np.random.default_rng(0).integers(6, config.vocab_size, rows * length, dtype=np.uint32)
    ends_R, places_R = np.arange(1, rows + 1) * length, np.arange(rows)
    batch = Batch(ids_T, ends_R, ends_R, places_R, np.zeros(rows, np.int64), places_R)
    noisy = corrupt(batch, Corruption(mask_id=MASK_ID, seed=0), rows)
    cpu, keys = torch.device("cpu"), OptimizerKeys(peak_lr=1e-4)
    backend, _ = choose_backend(cpu, torch.bfloat16)
    model = new_model(config, 0, compute_dtype=torch.bfloat16, backend=backend)
    denoiser, alone = Denoiser(model), Ranks(0, 1, cpu)
    optimizer, count = new_optimizer(denoiser, keys), noisy.loss_count

    def run() -> int:
        train_step(denoiser, optimizer, [noisy], likelihood_bound, count, keys.clip_norm, alone)
        return noisy.tokens

    return run


if __name__ == "__main__":
    main()
