"""The laws of training on one rank and on several: a table by how they lie.

    python benchmarks/ranks.py [--dtype float32]

A tiny model learns from 24 rows, five a step, for twelve steps: two and a half epochs, which no
number of ranks shares out evenly. The ranks are processes on gloo. Told is, for each mesh:

- law 2: in each whole epoch every row was seen once, over all ranks;
- law 3: each row was hidden as on one rank, token by token;
- law 4: stopped after five steps and run again, losses and weights are the same bit for bit;
- law 7: how far losses, and weights at the end, are from those of one rank.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from illada_core.data.batches import read_steps, row_at
from illada_core.files import write_json
from illada_core.model.weights import load_model
from illada_core.training.loop import train
from illada_core.training.parallel import join_ranks
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from illada_core.training.source import noisy_rows
from illada_core.training.step import likelihood_bound
from tests.training.kills import complete
from tests.training.test_loop import losses
from tests.training.tiny import tiny_recipe, write_packed

RUNS = ("whole", "parts")
ROWS, ROWS_A_STEP, STEPS, STOP = 24, 5, 12, 5
MESHES = {"1": (1, 1), "2": (2, 2), "3": (3, 3), "4": (4, 4), "2 copies x 2": (4, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| ranks | forwards of each | law 2 | law 3 | law 4 | losses, relative | weights |")
    print("| --- | --- | --- | --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_packed(folder / "packed", ROWS)
        for mesh, (world, shard) in MESHES.items():
            place = folder / f"{world}-{shard}"
            place.mkdir()
            complete(world, partial(follow, folder, place, shard, asked.dtype), place)
            print(f"| {mesh} | {' | '.join(compared(place, folder / '1-1', world))} |", flush=True)


def follow(folder: Path, place: Path, shard: int, dtype: str) -> int:
    """Train on this rank, once through and once with a stop; note what it is given."""
    recipe = tiny_recipe(
        folder / "packed",
        f"batch.rows={ROWS_A_STEP}",
        "batch.micro_rows=1",
        f"run.total_tokens={STEPS * ROWS_A_STEP * 32}",
        f"run.compute_dtype={dtype}",
        f"parallel.shard={shard}",
    )
    with join_ranks("cpu") as ranks:
        notes = run(recipe, place / "whole", ranks)
        run(recipe, place / "parts", ranks, stop_after=STOP)
        run(recipe, place / "parts", ranks)
    write_json(place / f"notes-{ranks.rank}.json", notes)
    return 0


def run(recipe, folder, ranks, stop_after=None):
    """Train, and return what each place of the run had: (place, epoch, row, hash of its noise)."""
    notes, forwards, reached = [], [], []
    with open_session(prepare(recipe), folder, ranks, fresh=False) as session:
        share, rule, dataset = session.share, session.corruption, session.setup.train

        def make(places):
            noisy = noisy_rows(dataset, rule, share, places)
            for place in places:  # at most one: a micro-batch has one row
                told = (noisy.noisy_T, noisy.hidden_M, noisy.weight_M)
                digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in told))
                notes.append((place, *row_at(place, dataset.rows, rule.seed), digest.hexdigest()))
            return noisy

        session.denoiser.register_forward_pre_hook(lambda *_: forwards.append(1))

        def source(first):
            return read_steps(share, first, make)

        def is_over():
            return stop_after is not None and len(reached) >= stop_after

        for event in train(session, source, likelihood_bound, is_over):
            reached += [event] if type(event).__name__ == "StepDone" else []
    used = [note for note in notes if note[0] < STEPS * ROWS_A_STEP]  # the others are read ahead
    return {"places": used, "forwards": len(forwards)}


def compared(place, alone, world):
    """Return the cells of a mesh, beside one rank."""
    told = [json.loads((place / f"notes-{rank}.json").read_text()) for rank in range(world)]
    first = json.loads((alone / "notes-0.json").read_text())
    forwards = {each["forwards"] for each in told}
    places = sorted(tuple(note) for each in told for note in each["places"])
    seen = Counter((epoch, row) for _, epoch, row, _ in places)
    whole_epochs = range(STEPS * ROWS_A_STEP // ROWS)
    once = all(seen[epoch, row] == 1 for epoch in whole_epochs for row in range(ROWS))
    same_noise = places == sorted(map(tuple, first["places"]))
    weights = [(place / name / "model" / "model.safetensors").read_bytes() for name in RUNS]
    exact = losses(place / "whole") == losses(place / "parts") and weights[0] == weights[1]
    pairs = zip(losses(alone / "whole"), losses(place / "whole"), strict=True)
    apart = max(abs(one["loss"] - two["loss"]) / one["loss"] for one, two in pairs if "loss" in one)
    models = [load_model(each / "whole" / "model").state_dict() for each in (alone, place)]
    drift = max((models[0][name] - each).abs().max().item() for name, each in models[1].items())
    assert len(forwards) == 1, "all ranks make as many forwards"
    kept = ["kept" if is_kept else "**broken**" for is_kept in (once, same_noise, exact)]
    return [str(forwards.pop()), *kept, f"{apart:.0e}", f"{drift:.0e}"]


if __name__ == "__main__":
    main()
