"""Ask a model the items of a task by illada eval's machinery and by a plain loop, in turns.

The plain side takes one item and one choice at a time, one sequence a forward, and computes the
logits of every position. Our side builds prompts, shares batches, and keeps each answer on disk.
Both have the same weights and must agree on every sum.

    python benchmarks/evaluate.py --ckpt DIR --data arc_challenge.jsonl
    python benchmarks/evaluate.py --ckpt DIR --data arc.jsonl --width 256 --mask-id 0

With --width the weights are random, and the checkpoint gives the tokenizer alone.
"""

import argparse
import platform
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from score import plain_confidence, timed

from illada_core.benchmark.answering import Engine
from illada_core.benchmark.answers import open_answers
from illada_core.benchmark.definition import load_benchmark
from illada_core.benchmark.exam import Exam, asks_of
from illada_core.benchmark.examination import ask_all, keys_of
from illada_core.benchmark.records import read_records
from illada_core.benchmark.shots import pool_of
from illada_core.evaluation.items import ScoringSettings
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.model.config import ModelConfig
from illada_core.model.families.family import Reading
from illada_core.model.initial import new_model

MOST_DIFFERENCE = 1e-3  # nats, of sums over a whole choice in float32


def ours(exam, engine):
    """Return the sums of each item, asked as illada eval asks them."""
    with TemporaryDirectory() as folder, open_answers(Path(folder)) as answers:
        keys = keys_of([exam], engine)
        for _ in ask_all([exam], keys, engine, answers, lambda: False):
            pass
        return [answers.find(key)["sums"] for (key,) in keys[exam.name]]


def plain(exam, engine):
    """Return the sums of each item, one choice and one canvas at a time."""
    asks = asks_of(exam, engine.checkpoint)
    return [
        plain_confidence(engine.model, ask.choices.item, engine.checkpoint.mask_id) for ask in asks
    ]


def choice_tokens(exam, engine):
    """Count the tokens of choices: the forwards that the plain side takes."""
    asks = asks_of(exam, engine.checkpoint)
    return sum(len(choice) for ask in asks for choice in ask.choices.item.choices)


def compare(exam, engine, turns, every):
    """Ask on both sides in turns, a share of the items at a time; print the ratio."""
    seconds = {"plain": [], "ours": []}
    ours(replace(exam, records=exam.records[:2]), engine)
    for turn in range(turns):
        share = renumbered(exam, exam.records[turn::turns])
        few = renumbered(exam, share.records[::every])
        expected, took = timed(plain, few, engine)
        seconds["plain"].append(took * choice_tokens(share, engine) / choice_tokens(few, engine))
        found, took = timed(ours, share, engine)
        seconds["ours"].append(took)
        for one, other in zip(found[::every], expected, strict=True):
            difference = max(abs(a - b) for a, b in zip(one, other, strict=True))
            assert difference < MOST_DIFFERENCE, f"the two sides disagree by {difference}"
    ratios = sorted(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
    totals = {side: sum(each) for side, each in seconds.items()}
    print("| items | forwards of the plain side | plain s | ours s | ratio | by turn |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {len(exam.records)} | {choice_tokens(exam, engine)} | {totals['plain']:.1f} "
        f"| {totals['ours']:.1f} | {totals['plain'] / totals['ours']:.2f} "
        f"| {ratios[0]:.2f} to {ratios[-1]:.2f} |"
    )


def renumbered(exam, records):
    """Return an exam with some of its items."""
    return replace(exam, records=tuple(records))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="arc_challenge")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument(
        "--plain-every", type=int, default=1, help="plain side: one item in so many"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mask-id", type=int)
    parser.add_argument("--width", type=int, help="a random model of this width, of four layers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, torch {torch.__version__}, float32, {vars(options)}")
    reading = Reading("full", False) if options.width else Reading()
    checkpoint = open_checkpoint(options.ckpt, options.mask_id, reading)
    model = random_model(options.width, checkpoint) if options.width else checkpoint.load()
    benchmark = load_benchmark(options.task)
    records = tuple(read_records(options.data, benchmark, options.items))
    scoring = ScoringSettings(delimiter=benchmark.delimiter)
    exam = Exam(benchmark=benchmark, records=records, pool=pool_of(records), scoring=scoring)
    with torch.no_grad():
        compare(exam, Engine(checkpoint, model, "cpu"), options.turns, options.plain_every)


def random_model(width, checkpoint):
    """Return a model of four layers with random weights."""
    config = ModelConfig(
        vocab_size=checkpoint.config.vocab_size,
        max_length=2048,
        width=width,
        layers=4,
        heads=width // 64,
        kv_heads=width // 64,
        head_size=64,
        ffn_size=width * 11 // 4,
    )
    return new_model(config, seed=0).eval()


if __name__ == "__main__":
    main()
