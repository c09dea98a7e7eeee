"""How fast `illada pack` packs and verifies, on one core and on all, and how much room rows waste.

    python benchmarks/pack.py                                  # documents made here
    python benchmarks/pack.py --corpus TEXT --tokenizer FILE   # real text, tokenized first
    python benchmarks/pack.py --dataset DIR                    # a token dataset there is

The yardstick is the codec alone: inflating and compressing frames of the dataset, with nothing in
between. Codec and packing alternate, the best of REPEATS runs counts, and they are compared by
processor time, so that other work on the machine disturbs the comparison little.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from illada_core.data.pack.plan import PackSettings
from illada_core.data.pack.write import clear_packed, pack
from illada_core.data.store.dataset import TokenDataset, open_dataset, open_parts
from illada_core.data.store.frames import compress_tokens
from illada_core.data.store.manifest import InputFile, Manifest, write_manifest
from illada_core.data.store.shards import TokenShardWriter, shard_name
from illada_core.data.store.verify import verify
from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord

MADE = ((200, 32_768), (200, 128_256), (1_500, 32_768), (1_500, 128_256))
CODEC_FRAMES = 64
REPEATS = 3


@dataclass(frozen=True)
class Rate:
    """Tokens a second, by the clock and by processor time."""

    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", type=Path, action="append", default=[])
    parser.add_argument("--corpus", type=Path, action="append", default=[])
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--tokens", type=float, default=4e7, help="size of each dataset made here")
    parser.add_argument("--sequence-length", type=int, action="append")
    arguments = parser.parse_args()
    lengths = arguments.sequence_length or [2_048, 8_192]
    with tempfile.TemporaryDirectory(prefix="bench-pack-") as scratch:
        folder = Path(scratch)
        datasets = {path.name: path for path in arguments.dataset}
        for corpus in arguments.corpus:
            datasets[corpus.name] = tokenize(corpus, arguments.tokenizer, folder / corpus.name)
        if not datasets:
            for mean, vocab_size in MADE:
                name = f"made, mean {mean}, {vocab_size // 1000}k"
                datasets[name] = make_dataset(
                    folder / name, int(arguments.tokens), mean, vocab_size
                )
        print(f"{'dataset':24}{'what':14}{'1 core':>8}{'of codec':>10}{'1 core, cpu':>13}", end="")
        print(f"{'all cores':>11}{'empty':>10}   (million tokens a second)")
        for name, path in datasets.items():
            measure(name, open_dataset(path), folder / "out", lengths)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of all of this: {peak:.0f} MiB")


def tokenize(corpus: Path, tokenizer: Path, output: Path) -> Path:
    command = ["tokenize", corpus, "--tokenizer", tokenizer, "-o", output, "--quiet"]
    subprocess.run([sys.executable, "-m", "illada_cli", *map(str, command)], check=True)
    return output


def make_dataset(folder: Path, tokens: int, mean: int, vocab_size: int) -> Path:
    """Write documents of log-normal lengths, whose tokens are phrases that come again and again."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    phrases = (generator.zipf(1.25, (20_000, 8)) % (vocab_size - 10) + 6).astype(np.uint32)
    path = folder / shard_name(0, vocab_size)
    with TokenShardWriter(path, vocab_size, "made") as writer:
        record = 0
        while writer.tokens < tokens:
            count = 2**22 // mean
            lengths = np.maximum(generator.lognormal(np.log(mean) - 0.5, 1.0, count), 1)
            ends = np.cumsum(lengths.astype(np.int64))
            drawn = (generator.zipf(1.1, ends[-1] // 8 + 1) % len(phrases)).astype(np.int64)
            ids = phrases[drawn].reshape(-1)[: ends[-1]].copy()
            ids[ends - 1] = 2
            numbers = np.arange(record, record + count)
            writer.add_documents(ids, ends, np.zeros_like(numbers), numbers)
            record += count
        entry = writer.close()
    tokenizer = TokenizerRecord("0" * 64, vocab_size, SpecialIds(0, 1, 2, 5))
    inputs = (InputFile("made", 0, "0" * 64),)
    write_manifest(folder, Manifest("documents", tokenizer, inputs, {}, (entry,)))
    return folder


def measure(name: str, source: TokenDataset, output: Path, lengths: list[int]) -> None:
    """Print a line for each mode and row length, and one for the check of the last."""
    cores = sorted(os.sched_getaffinity(0))
    for mode in ("stream", "fit"):
        for length in lengths:
            settings = PackSettings(length, mode, "document", shuffle=True, seed=0, holdout=0.005)
            codec, one, every = [], [], []
            for _ in range(REPEATS):
                os.sched_setaffinity(0, cores[:1])
                codec.append(timed(run_codec, source))
                one.append(timed(run_pack, source, output, settings, 1))
                os.sched_setaffinity(0, cores)
                every.append(timed(run_pack, source, output, settings, len(cores)))
            rows = open_parts(output)["train"]
            empty = 1 - rows.tokens / (rows.rows * length)
            line(name, f"{mode} {length}", best(one), best(every), best(codec), f"{empty:.3%}")
    one, every = [], []
    for _ in range(REPEATS):
        os.sched_setaffinity(0, cores[:1])
        one.append(timed(run_verify, output, 1))
        os.sched_setaffinity(0, cores)
        every.append(timed(run_verify, output, len(cores)))
    line(name, "verify", best(one), best(every), None, "")


def best(rates: list[Rate]) -> Rate:
    return Rate(max(rate.wall for rate in rates), max(rate.processor for rate in rates))


def timed(work: Callable[..., int], *arguments: Any) -> Rate:
    wall, processor = time.perf_counter(), time.process_time()
    tokens = work(*arguments)
    return Rate(tokens / (time.perf_counter() - wall), tokens / (time.process_time() - processor))


def run_codec(source: TokenDataset) -> int:
    """Inflate and compress the first frames again, one after the other."""
    reader = source.shard(0)
    frames = range(min(CODEC_FRAMES, reader.frames))
    return sum(
        len(stored) // source.token_bytes
        for stored in (reader.stored(frame) for frame in frames)
        if compress_tokens(reader.token_bytes, stored.data)
    )


def run_pack(source: TokenDataset, output: Path, settings: PackSettings, workers: int) -> int:
    clear_packed(output)
    with ThreadPoolExecutor(workers) as pool:
        over = pool.map if workers > 1 else map
        return sum(pack(open_dataset(source.folder), output, settings, over))


def run_verify(output: Path, workers: int) -> int:
    with ThreadPoolExecutor(workers) as pool:
        over = pool.map if workers > 1 else map
        steps = [step for part in open_parts(output).values() for step in verify(part, over)]
    assert not any(step.problem for step in steps)
    return sum(step.tokens for step in steps)


def line(name: str, what: str, one: Rate, every: Rate, codec: Rate | None, empty: str) -> None:
    share = f"{one.processor / codec.processor:.0%}" if codec else ""
    print(f"{name:24}{what:14}{one.wall / 1e6:8.0f}{share:>10}{one.processor / 1e6:13.0f}", end="")
    print(f"{every.wall / 1e6:11.0f}{empty:>10}", flush=True)


if __name__ == "__main__":
    main()
