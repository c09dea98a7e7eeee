"""What weights in 8 or 4 bits cost a model in likelihood, and what they save.

The bound of a text by the model as it is and rounded, with the same draws of masks on both sides,
so that their difference is the rounding's; CPU seconds of both, in turns; the bytes of the layers.

    python benchmarks/quantized.py --ckpt DIR --text FILE [--characters 20000] [--kinds int8]
        [--device auto] [--dtype auto] [--samples 8] [--passes 3]
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch

from illada_core import load
from illada_core.api import Model
from illada_core.model.quantized import projections, stored_numbers

PROMPT_CHARACTERS, NEW_TOKENS = 200, 32


def layer_bytes(model: Model) -> int:
    """Return how much the rounded weights take, scales left out."""
    return sum(stored_numbers(each.weight).nbytes for each in projections(model.model.layers))


def timed(work) -> tuple[float, object]:
    start = time.process_time()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--characters", type=int, default=20_000)
    parser.add_argument("--kinds", nargs="+", default=["int8"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--passes", type=int, default=3)
    asked = parser.parse_args()
    text = asked.text.read_text()[: asked.characters]
    models = {
        kind or "as stored": load(asked.ckpt, asked.device, asked.dtype, quantize=kind)
        for kind in (None, *asked.kinds)
    }
    bounds = {name: model.perplexity(text, samples=asked.samples) for name, model in models.items()}
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"score": [], "write": []} for name in models
    }
    prompt = text[:PROMPT_CHARACTERS]
    for _ in range(asked.passes):
        for name, model in models.items():
            taken, _ = timed(lambda model=model: model.perplexity(text[:2000], samples=2))
            seconds[name]["score"].append(taken)
            write = {"max_new_tokens": NEW_TOKENS, "eos_guard": "none"}
            taken, _ = timed(lambda model=model, write=write: model.generate(prompt, **write))
            seconds[name]["write"].append(taken)
    print(f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| weights | layers, MB | bits per byte | difference | scoring, CPU | writing, CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    exact = bounds["as stored"].bits_per_byte
    for name, model in models.items():
        bits = bounds[name].bits_per_byte
        score, write = (statistics.median(seconds[name][each]) for each in ("score", "write"))
        print(
            f"| {name} | {layer_bytes(model) / 1e6:,.1f} | {bits:.4f} | {bits / exact - 1:+.3%} | "
            f"{score:.2f} s | {write:.2f} s |"
        )


if __name__ == "__main__":
    main()
