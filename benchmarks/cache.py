"""Blocks filled over kept keys and values, against all positions computed at each step.

The sampler continues a prompt by 64 tokens in blocks of 32, a token a step, the surest first, with
`cache = none` and `cache = block`, in turns in one run: medians of CPU time, their ratios, and how
many tokens agree. With `--ckpt` and `--text` the model is a real one and prompts are parts of the
text: agreement against the interval of refreshes, beside the time. `--judge` names a model that
writes from left to right, with the same ids: its exact nats for each new token say what a cache
costs in quality. Random weights say nothing of that.

    python benchmarks/cache.py [--prompts 64 1024] [--passes 3] [--dtype float32] [--threads 1]
    python benchmarks/cache.py --ckpt DIR --text FILE [--judge DIR] [--count 8] [--prompts 64 256]
"""

import argparse
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from illada_core.inference.cache import Cache
from illada_core.inference.canvas import continuation
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Completion, Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.model.attention import choose_backend
from illada_core.model.config import ModelConfig
from illada_core.model.families.family import Reading
from illada_core.model.initial import new_model
from illada_core.model.stored import DTYPES
from illada_core.model.transformer import Transformer

NEW_TOKENS, MASK_ID = 64, 5
EXACT = Settings(block_length=32, max_new_tokens=NEW_TOKENS)
KEPT = replace(EXACT, cache="block")
WAYS = {
    "none": EXACT,
    "every 2 calls": replace(KEPT, refresh_every=2),
    "every 4 calls": replace(KEPT, refresh_every=4),
    "every 8 calls": replace(KEPT, refresh_every=8),
    "after 8 tokens, vicinity 16": replace(KEPT, refresh_after=8, vicinity=16),
    "vicinity 16": replace(KEPT, vicinity=16),
    "block": KEPT,
}


def random_model(dtype: str) -> Transformer:
    """Return an untrained model of width 256 and 6 layers, the same one every time."""
    config = ModelConfig(
        vocab_size=2048,
        width=256,
        layers=6,
        heads=8,
        kv_heads=4,
        head_size=32,
        ffn_size=704,
        max_length=2048,
        mask_id=MASK_ID,
    )
    backend, _ = choose_backend("cpu", DTYPES[dtype])
    return new_model(config, seed=0, dtype=DTYPES[dtype], backend=backend).requires_grad_(False)


def continued(
    model: Transformer, ids: ModelIds, prompts: list[list[int]], settings: Settings
) -> tuple[float, list[Completion]]:
    """Return the CPU seconds of continuing prompts one by one, and what came of them."""
    start, done = time.process_time(), []
    reading = Reading(model.config.attention, model.config.shift)
    for prompt in prompts:
        sampler = Sampler(model.logits_at, ids, cache=Cache(model, 8192, reading))
        done += generate(sampler, [continuation(prompt, NEW_TOKENS)], settings)
    return time.process_time() - start, done


def in_turns(
    model: Transformer,
    ids: ModelIds,
    prompts: list[list[int]],
    ways: dict[str, Settings],
    passes: int,
) -> dict[str, tuple[float, list[Completion]]]:
    """Return the median seconds and the texts of each way; the ways take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    done: dict[str, list[Completion]] = {}
    for _ in range(passes):
        for name, settings in ways.items():
            seconds, done[name] = continued(model, ids, prompts, settings)
            taken[name].append(seconds)
    return {name: (statistics.median(taken[name]), done[name]) for name in ways}


def agreement(found: list[Completion], expected: list[Completion]) -> float:
    """Return the share of tokens that stand at the same place."""
    pairs = [
        (one, other)
        for text, exact in zip(found, expected, strict=True)
        for one, other in zip(text.output_ids, exact.output_ids, strict=False)
    ]
    return sum(one == other for one, other in pairs) / max(1, len(pairs))


@torch.inference_mode()
def judged(judge: Transformer, prompts: list[list[int]], done: list[Completion]) -> float:
    """Return what a causal model needs for the new tokens, in nats for each."""
    nats, tokens = 0.0, 0
    for prompt, completion in zip(prompts, done, strict=True):
        ids_T = torch.tensor([*prompt, *completion.output_ids])
        new_M = torch.arange(len(prompt), len(ids_T))
        logits_MV = judge.logits_at(ids_T, (len(ids_T),), new_M)
        nats += F.cross_entropy(logits_MV.float(), ids_T[new_M], reduction="sum").item()
        tokens += len(new_M)
    return nats / max(1, tokens)


def random_prompts(model: Transformer, tokens: int) -> list[list[int]]:
    draws = torch.Generator().manual_seed(tokens)
    return torch.randint(
        MASK_ID + 1, model.config.vocab_size, (1, tokens), generator=draws
    ).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ckpt")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--judge", help="a causal model with the same ids")
    parser.add_argument("--count", type=int, default=8, help="prompts of each length")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(
        f"{platform.machine()}, torch {torch.__version__}, {asked.threads} threads, {asked.dtype}"
    )
    judge = open_checkpoint(asked.judge).load("cpu", asked.dtype) if asked.judge else None
    columns = ["tokens", "cache", "rows computed", "CPU", "ratio", "tokens alike"]
    columns += ["nats by the judge"] if judge else []
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    if asked.ckpt:
        checkpoint = open_checkpoint(asked.ckpt)
        model, ids, ways = checkpoint.load("cpu", asked.dtype), checkpoint.ids, WAYS
        text_ids = checkpoint.require_tokenizer().encode(asked.text.read_text())
    else:
        model, ids = random_model(asked.dtype), ModelIds(MASK_ID)
        ways = {name: WAYS[name] for name in ("none", "block")}
    for tokens in asked.prompts:
        if asked.ckpt:
            step = (len(text_ids) - tokens) // asked.count
            prompts = [text_ids[step * n : step * n + tokens] for n in range(asked.count)]
        else:
            prompts = random_prompts(model, tokens)
        found = in_turns(model, ids, prompts, ways, asked.passes)
        whole, expected = found["none"]
        for name, (seconds, done) in found.items():
            rows = sum(completion.rows_computed for completion in done)
            print(
                f"| {tokens:,} + {NEW_TOKENS} | {name} | {rows:,} | {seconds:.2f} s | "
                f"**{whole / seconds:.2f}** | {agreement(done, expected):.0%} |"
                + (f" {judged(judge, prompts, done):.3f} |" if judge else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
