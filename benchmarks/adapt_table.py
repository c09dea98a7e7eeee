"""The bound of trained models after equally many tokens, beside a donor's exact figure.

    python benchmarks/adapt_table.py PACKED DONOR NAME=RUN [NAME=RUN ...]

All speak of the same held-out rows, those that the runs were validated on, and of all their tokens
but each segment's first. A diffusion model's figure is a bound, so it may be better than it says;
that of DONOR, which writes from left to right, is exact.
"""

import sys
from math import log
from pathlib import Path

import torch
import torch.nn.functional as F

from illada_core.data.batches import row_at
from illada_core.data.store.dataset import open_packed
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.model.finding import RECIPE
from illada_core.training.lines import read_metrics
from illada_core.training.recipe.files import load_recipe
from illada_core.training.setup import NOISE_SEED, bytes_per_token


def bounds(run: Path) -> dict[int, float]:
    """Return the bounds of a run on held-out rows, in nats per token, by the tokens it had seen."""
    found = [line for line in read_metrics(run) if line["kind"] == "validation"]
    return {line["tokens"]: line["loss"] for line in found}


@torch.inference_mode()
def exact_nats(donor: str, packed: Path, rows: int) -> tuple[float, float]:
    """Return what a causal model needs for held-out tokens: nats per token, and bits per byte."""
    checkpoint = open_checkpoint(donor)
    model = checkpoint.load("cpu", "bfloat16")
    held = open_packed(packed)[1]
    assert held is not None, "the runs were validated"
    nats, tokens = 0.0, 0
    for place in range(rows or held.rows):
        row = held.row(row_at(place, held.rows, NOISE_SEED)[1])
        ends = row.segment_ends.tolist()
        ids_T = torch.from_numpy(row.ids.astype("int64"))
        rest_M = torch.tensor(sorted(set(range(len(ids_T))) - {0, *ends}))
        logits_MV = model.logits_at(ids_T, ends, rest_M)
        nats += F.cross_entropy(logits_MV.float(), ids_T[rest_M], reduction="sum").item()
        tokens += len(rest_M)
    width = bytes_per_token(held, rows or held.rows, checkpoint.require_tokenizer())
    assert width is not None, "the rows hold text"
    return nats / tokens, nats / tokens / log(2) / width


def main() -> None:
    packed, donor, *named = sys.argv[1:]
    runs = {name: Path(run) for name, _, run in (each.partition("=") for each in named)}
    rows = {load_recipe(run / RECIPE).validation.rows for run in runs.values()}
    assert len(rows) == 1, "the runs were validated on different rows"
    measured = {name: bounds(run) for name, run in runs.items()}
    print(f"\nheld-out text, nats per token\n\n{'tokens':>10}" + "".join(f"{n:>18}" for n in runs))
    for tokens in sorted(set.union(*map(set, measured.values()))):
        figures = (at.get(tokens) for at in measured.values())
        told = (f"{'' if each is None else f'at most {each:.3f}':>18}" for each in figures)
        print(f"{tokens:10,}" + "".join(told))
    nats, bits = exact_nats(donor, Path(packed), rows.pop())
    print(f"\nthe donor, from left to right: exactly {nats:.3f}, {bits:.3f} bits per byte")


if __name__ == "__main__":
    main()
