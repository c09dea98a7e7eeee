"""Adapt one donor in several ways, on the same rows and for as many tokens, and print a table.

    python benchmarks/adapt.py PACKED DONOR RUNS [--seeds 2] [--tokens 49152]

Each way is a change of the recipe `adapt`; the fresh model has the donor's shape. A way that is
there already goes on, or is left as it is. Columns are the bound on held-out rows half-way and at
the end, its part from few hidden tokens, and seconds of a step. `illada` must be on the PATH.
"""

import argparse
import subprocess
from pathlib import Path
from statistics import median

from adapt_table import bounds, exact_nats

from illada_core.model.configfile import read_config
from illada_core.training.lines import read_metrics
from illada_core.training.setup import SIZES

HELD_OUT_ROWS = 64
COMMON = {
    "batch.rows": 4,
    "batch.micro_rows": 4,
    "run.threads": 1,
    "run.epochs": 0.0,
    "objective.weights": "ratio",
    "optimizer.peak_lr": 3e-4,
    "schedule.decay": "none",
    "schedule.warmup_tokens": 10_000,
    "validation.rows": HELD_OUT_ROWS,
}
COLUMNS = (
    "way",
    "seed",
    "bound half-way",
    "bound",
    "nats of a token where at most a tenth is hidden",
    "s a step",
)


def ways(donor: Path, tokens: int) -> dict[str, dict[str, object]]:
    """Return what each way changes."""
    config = read_config(donor)
    shape = {f"model.{name}": vars(config)[name] for name in (*SIZES, "rope_theta", "norm_eps")}
    from_donor = {"model.ckpt": donor}
    return {
        "shift": from_donor,
        "own": from_donor | {"model.shift": "false"},
        "annealed": from_donor | {"schedule.anneal_tokens": tokens // 2},
        "cart": from_donor | {"objective.weights": "cart"},
        "fresh": shape
        | {"model.adapt": "false", "model.shift": "false", "optimizer.peak_lr": 1e-3},
    }


def train(packed: Path, run: Path, changes: dict[str, object]) -> None:
    """Train, or go on, on one thread."""
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    command = ["illada", "pretrain", "adapt", "--data", packed, "-o", run, "-q", *settings]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


def measured(run: Path) -> tuple[str, ...]:
    """Return the figures of a run that is done."""
    lines = read_metrics(run)
    last = [line for line in lines if line["kind"] == "validation"][-1]
    half, end = list(bounds(run).values())[-2:]
    seconds = median(line["seconds"] for line in lines if line["kind"] == "step")
    return f"{half:.3f}", f"**{end:.3f}**", f"{last['loss_by_ratio'][0]:.2f}", f"{seconds:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", type=Path)
    parser.add_argument("donor", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=49_152)
    asked = parser.parse_args()
    row_tokens = 256
    steps = asked.tokens // (row_tokens * COMMON["batch.rows"])
    saving = {"validation.every_steps": steps // 2, "checkpoint.every_steps": steps // 2}
    nats, bits = exact_nats(str(asked.donor), asked.packed, HELD_OUT_ROWS)
    print(f"The donor, exactly: {nats:.3f} nats per token, {bits:.3f} bits per byte.\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    for seed in range(asked.seeds):
        for name, changes in ways(asked.donor, asked.tokens).items():
            run = asked.runs / f"{name}-{seed}"
            length = {"run.total_tokens": asked.tokens, "run.seed": seed}
            train(asked.packed, run, COMMON | length | saving | changes)
            print(f"| {' | '.join((name, str(seed), *measured(run)))} |", flush=True)


if __name__ == "__main__":
    main()
