"""How fast `illada tokenize` is, against the bare encoder on the same text in the same run.

    python benchmarks/tokenizing.py --tokenizer tokenizer.json CORPUS...

For each corpus, in turns: the encoder alone on text that lies in memory, with one thread and with
one for each core; then the command with one worker and with one for each core. Every measurement
is a new process, so that no cache is warm. Rates are of UTF-8 text. The encoder's leaves loading
the tokenizer out, and so does the command's "work"; its "whole" is what a person waits for.

(Not named like the command: a tokenize.py here would hide Python's own from every benchmark.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RAW_CHILD = "--measure-encoder"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpora", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(RAW_CHILD, type=int, dest="threads", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        measure_encoder(arguments.corpora, arguments.tokenizer, arguments.engine, arguments.threads)
        return
    for corpus in arguments.corpora:
        rounds = [
            one_round(corpus, arguments.tokenizer, arguments.engine, arguments.workers)
            for _ in range(arguments.rounds)
        ]
        show(corpus, rounds, arguments.workers)


def one_round(corpus: str, tokenizer: str, engine: str, workers: int) -> dict[str, Any]:
    """Measure the encoder and the command, each with one thread and with `workers`, in turns."""
    return {
        "encoder 1": run_encoder(corpus, tokenizer, engine, 1),
        "command 1": run_command(corpus, tokenizer, engine, 1),
        "encoder all": run_encoder(corpus, tokenizer, engine, workers),
        "command all": run_command(corpus, tokenizer, engine, workers),
    }


def run_encoder(corpus: str, tokenizer: str, engine: str, threads: int) -> dict[str, float]:
    """Run the encoder alone in a process of its own."""
    options = ["--tokenizer", tokenizer, "--engine", engine, RAW_CHILD, str(threads)]
    done = subprocess.run(
        [sys.executable, __file__, corpus, *options], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def measure_encoder(corpora: list[str], tokenizer: str, engine: str, threads: int) -> None:
    """Encode text that was read before, chunk by chunk as the command does; print the rate."""
    from illada_core.data.sources.corpus import corpus_chunks
    from illada_core.data.sources.listing import list_sources
    from illada_core.text.tokenizer import load_tokenizer

    encoder = load_tokenizer(Path(tokenizer), engine)
    chunks = [chunk.read() for chunk in corpus_chunks(list_sources(corpora), "text")]
    size = sum(sum(chunk.sizes) for chunk in chunks)
    started, processor = time.perf_counter(), time.process_time()
    if threads == 1:
        for chunk in chunks:
            encoder.encode_flat(chunk.texts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda chunk: encoder.encode_flat(chunk.texts), chunks):
                pass
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    print(json.dumps({"MB": size / 1e6, "work": size / seconds / 1e6, "cpu_s": processor}))


def run_command(corpus: str, tokenizer: str, engine: str, workers: int) -> dict[str, float]:
    """Run the command in a process of its own, and measure it from outside too."""
    command = [sys.executable, "-m", "illada_cli", "tokenize", corpus, "--tokenizer", tokenizer]
    with tempfile.TemporaryDirectory(prefix="bench-tokenize-") as folder:
        options = ["-o", f"{folder}/tokens", "--workers", str(workers), "--engine", engine]
        started = time.perf_counter()
        process = subprocess.Popen([*command, *options, "--json", "-q"], stdout=subprocess.PIPE)
        assert process.stdout
        report = json.load(process.stdout)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    assert status == 0
    return {
        "work": report["text_bytes"] / report["seconds"] / 1e6,
        "whole": report["text_bytes"] / seconds / 1e6,
        "Mtok": report["tokens"] / report["seconds"] / 1e6,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "MiB": usage.ru_maxrss / 1024,
    }


def show(corpus: str, rounds: list[dict[str, Any]], workers: int) -> None:
    """Print the medians of all rounds, and the ratios that matter."""

    def median(what: str, of: str) -> float:
        return statistics.median(one[what][of] for one in rounds)

    def ratio(one: str, other: str) -> float:
        return statistics.median(turn[one]["work"] / turn[other]["work"] for turn in rounds)

    print(f"{corpus}: {rounds[0]['encoder 1']['MB']:.0f} MB, medians of {len(rounds)} rounds")
    print(f"  encoder alone, 1 thread    {median('encoder 1', 'work'):6.0f} MB/s")
    print(f"  encoder alone, {workers} threads   {median('encoder all', 'work'):6.0f} MB/s")
    for what, count in (("command 1", 1), ("command all", workers)):
        print(
            f"  command, {count} worker{'s' if count > 1 else ' '}         "
            f"{median(what, 'work'):6.0f} MB/s, {median(what, 'Mtok'):.0f} Mtok/s"
            f" (whole command {median(what, 'whole'):.0f} MB/s, {median(what, 'cpu_s'):.1f} s of"
            f" processor time, peak {max(one[what]['MiB'] for one in rounds):.0f} MiB)"
        )
    for one, other, label in (
        ("command 1", "encoder 1", "1 worker / encoder with 1 thread"),
        ("command all", "encoder all", f"{workers} workers / encoder with {workers} threads"),
        ("command all", "command 1", f"{workers} workers / 1 worker"),
        ("command all", "encoder 1", f"{workers} workers / encoder with 1 thread"),
    ):
        print(f"  {label:40}{ratio(one, other):.2f}")


if __name__ == "__main__":
    main()
