"""A random model in float32 through oneDNN and through torch's own choice, in turns.

python benchmarks/linear.py --threads 1            # the forward
python benchmarks/linear.py --threads 1 --train    # with its gradient, every row read
"""

import argparse
import platform
import statistics
import time
from itertools import accumulate
from unittest import mock

import torch

from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.kernels import linear

SEGMENT = 48


def seconds(model, segments):
    """Time one forward of packed segments that reads one row in eight."""
    ids_T = torch.randint(0, model.config.vocab_size, (SEGMENT * segments,))
    ends = tuple(accumulate([SEGMENT] * segments))
    started = time.perf_counter()
    model.logits_at(ids_T, ends, torch.arange(0, len(ids_T), 8))
    return time.perf_counter() - started


def training_seconds(model, segments):
    """Time one forward and backward of packed segments."""
    ids_T = torch.randint(0, model.config.vocab_size, (SEGMENT * segments,))
    ends = Segments.of(tuple(accumulate([SEGMENT] * segments)), ids_T.device)
    started = time.perf_counter()
    model(ids_T, ends).sum().backward()
    taken = time.perf_counter() - started
    model.zero_grad()
    return taken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = ModelConfig(
        vocab_size=32_000,
        width=512,
        layers=8,
        heads=8,
        kv_heads=8,
        head_size=64,
        ffn_size=1408,
        max_length=2048,
    )
    model = new_model(config, seed=0)
    print(f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}, float32")
    print("| tokens | torch's choice ms | oneDNN ms | ratio of medians | of minima |")
    print("|---|---|---|---|---|")
    measure = training_seconds if options.train else seconds
    with torch.set_grad_enabled(options.train):
        for segments in (1, 4, 16):
            taken = {False: [], True: []}
            for _ in range(options.turns):
                for use_onednn, times in taken.items():
                    with mock.patch.object(linear, "has_onednn", lambda use=use_onednn: use):
                        times.append(1e3 * measure(model, segments))
            median, least = ([f(taken[way]) for way in taken] for f in (statistics.median, min))
            print(
                f"| {SEGMENT * segments} | {median[0]:.1f} | {median[1]:.1f} "
                f"| {median[0] / median[1]:.2f} | {least[0] / least[1]:.2f} |"
            )


if __name__ == "__main__":
    main()
