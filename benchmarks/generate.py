"""Generation against a plain loop over full logits, and a batch of prompts against one by one.

A random model of width 512 and 8 layers, 64 prompt tokens, 128 new ones, blocks of 32. The plain
loop runs twice: with torch's own matrix products, as anybody would write it, and with illada's
(results/linear.md), so that the gain of the products stands apart. The sides alternate in one run,
each pass is timed apart; medians, and their ratios to the last side, are printed.

    python benchmarks/generate.py [--vocabularies 32768 126464] [--parts loop batch] [--passes 3]
        [--threads 2] [--dtype float32]
"""

import argparse
import platform
import statistics
import time
from unittest import mock

import torch

from illada_core.inference.canvas import continuation
from illada_core.inference.rules import ModelIds
from illada_core.inference.sampler import Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.kernels import linear
from illada_core.model.stored import DTYPES
from illada_core.model.transformer import Transformer

PROMPT_TOKENS, NEW_TOKENS, BLOCK_LENGTH, PROMPTS = 64, 128, 32, 8
MASK_ID = 5


def random_model(vocab_size: int, dtype: str) -> Transformer:
    """Return an untrained model, the same one every time."""
    config = ModelConfig(
        vocab_size=vocab_size,
        width=512,
        layers=8,
        heads=8,
        kv_heads=8,
        head_size=64,
        ffn_size=1408,
        max_length=1024,
        mask_id=MASK_ID,
    )
    return new_model(config, seed=0, dtype=DTYPES[dtype]).requires_grad_(False)


@torch.inference_mode()
def plain_loop(model: Transformer, prompt: list[int]) -> list[int]:
    """Fill a fixed canvas one token a step; every step computes the logits of the whole canvas."""
    length = len(prompt) + NEW_TOKENS
    canvas_T = torch.tensor(prompt + [MASK_ID] * NEW_TOKENS)
    all_rows = torch.arange(length)
    for start in range(len(prompt), length, BLOCK_LENGTH):
        for _ in range(BLOCK_LENGTH):
            logits_TV = model.logits_at(canvas_T, (length,), all_rows)
            token_T = logits_TV.argmax(-1)
            p_T = logits_TV.softmax(-1).gather(1, token_T[:, None])[:, 0]
            p_T[canvas_T != MASK_ID] = -torch.inf
            p_T[start + BLOCK_LENGTH :] = -torch.inf
            best = p_T.argmax()
            canvas_T[best] = token_T[best]
    return canvas_T[len(prompt) :].tolist()


def plain_products(model: Transformer, prompt: list[int]) -> list[int]:
    """Run the plain loop with the products that torch itself would choose."""
    with mock.patch.object(linear, "has_onednn", return_value=False):
        return plain_loop(model, prompt)


def ours(model: Transformer, prompts: list[list[int]], grows: bool = True) -> int:
    """Generate after all prompts in one batch and return the number of new tokens."""
    sampler = Sampler(model.logits_at, ModelIds(MASK_ID))
    tasks = [continuation(prompt, NEW_TOKENS, grows) for prompt in prompts]
    done = generate(sampler, tasks, Settings(block_length=BLOCK_LENGTH))
    return sum(len(completion.output_ids) for completion in done)


def alternate(sides: dict, passes: int) -> dict[str, list[float]]:
    """Time each side once a pass, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(passes):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(title: str, seconds: dict[str, list[float]], tokens: int) -> None:
    """Print each side's median and best, and how much faster the last side is."""
    *_, last = seconds.values()
    print(title)
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f"  {name:<38} median {median:7.2f} s  best {min(times):7.2f} s"
            f"  {tokens / median:7.1f} tokens/s"
            f"  ratio of medians {median / statistics.median(last):5.2f}"
            f"  of bests {min(times) / min(last):5.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_768, 126_464])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=["loop", "batch"], default=["loop", "batch"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {options.threads} threads, "
        f"{options.dtype}"
    )
    for vocab_size in options.vocabularies:
        compare(vocab_size, options.dtype, options.parts, options.passes)


def compare(vocab_size: int, dtype: str, parts: list[str], passes: int) -> None:
    """Run the comparisons with one vocabulary."""
    model = random_model(vocab_size, dtype)
    draws = torch.Generator().manual_seed(0)
    prompts = torch.randint(6, vocab_size, (PROMPTS, PROMPT_TOKENS), generator=draws).tolist()
    ours(model, prompts[:1])
    one = {
        "plain loop, torch's products": lambda: plain_products(model, prompts[0]),
        "plain loop, illada's products": lambda: plain_loop(model, prompts[0]),
        "illada, variable length": lambda: ours(model, prompts[:1]),
    }
    title = f"vocabulary {vocab_size:,}: one prompt, {NEW_TOKENS} new tokens"
    if "loop" in parts:
        report(title, alternate(one, passes), NEW_TOKENS)
    many = {
        "eight prompts, one by one": lambda: [ours(model, [prompt]) for prompt in prompts],
        "eight prompts together": lambda: ours(model, prompts),
    }
    title = f"vocabulary {vocab_size:,}: {PROMPTS} prompts, {NEW_TOKENS} new tokens each"
    if "batch" in parts:
        report(title, alternate(many, passes), PROMPTS * NEW_TOKENS)


if __name__ == "__main__":
    main()
