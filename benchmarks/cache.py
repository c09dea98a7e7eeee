"""A block filled by windows over kept keys and values, against passes over the whole canvas.

A random model of width 256 and 6 layers fills 64 tokens after a prompt in blocks of 32, a token a
step, the surest first: every step a pass over all that stands, or only the first of each block, the
others computing the 32 rows of the block. Both sides do the same work on logits. They alternate in
one run; medians of CPU time, ratios, and how many tokens agree are printed. Random weights say
nothing of the quality that windows lose.

    python benchmarks/cache.py [--prompts 64 1024] [--passes 3] [--dtype float32] [--threads 1]
"""

import argparse
import platform
import statistics
import time

import torch
from torch import Tensor

from illada_core.model.attention import choose_backend
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.memory import KeyValues, Window
from illada_core.model.stored import DTYPES
from illada_core.model.transformer import Transformer

NEW_TOKENS, BLOCK_LENGTH, MASK_ID = 64, 32, 5
EVERY_STEP = 1  # a refresh every step: nothing is kept


def random_model(dtype: str) -> Transformer:
    """Return an untrained model, the same one every time."""
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


@torch.inference_mode()
def continued(model: Transformer, prompt: list[int], refresh_every: int) -> tuple[list[int], int]:
    """Return the new tokens, and how many rows were computed for them."""
    canvas_T, rows = torch.tensor(prompt), 0
    slots = len(prompt) + NEW_TOKENS
    memory = KeyValues(model.config, slots, canvas_T.device, model.compute_dtype)
    for _ in range(NEW_TOKENS // BLOCK_LENGTH):
        first = len(canvas_T)
        canvas_T = torch.cat((canvas_T, torch.full((BLOCK_LENGTH,), MASK_ID)))
        for step in range(BLOCK_LENGTH):
            start = first if step % refresh_every else 0
            rows += len(canvas_T) - start
            open_M = (canvas_T == MASK_ID).nonzero()[:, 0]
            logits_MV = asked_logits(model, canvas_T, start, open_M, memory, refresh_every)
            logits_MV[:, MASK_ID] = -torch.inf
            surest, token_M = logits_MV.float().softmax(-1).max(-1)
            best = surest.argmax()
            canvas_T[open_M[best]] = token_M[best]
    return canvas_T[len(prompt) :].tolist(), rows


def asked_logits(
    model: Transformer,
    canvas_T: Tensor,
    start: int,
    open_M: Tensor,
    memory: KeyValues,
    refresh_every: int,
) -> Tensor:
    """Return the logits of the open positions; rows from `start` on are computed."""
    length = len(canvas_T)
    if refresh_every == EVERY_STEP:
        return model.logits_at(canvas_T, (length,), open_M)
    window = Window.of([range(start, length)], [(0, length)])
    return model.head(model(canvas_T[start:], window, open_M - start, memory))


def compare(model: Transformer, prompt_tokens: int, passes: int) -> str:
    """Return a row of the table: both sides in turns."""
    draws = torch.Generator().manual_seed(prompt_tokens)
    prompt = torch.randint(MASK_ID + 1, 2048, (prompt_tokens,), generator=draws).tolist()
    taken: dict[int, list[float]] = {EVERY_STEP: [], BLOCK_LENGTH: []}
    tokens, rows = {}, {}
    for _ in range(passes):
        for refresh_every, seconds in taken.items():
            start = time.process_time()
            tokens[refresh_every], rows[refresh_every] = continued(model, prompt, refresh_every)
            seconds.append(time.process_time() - start)
    whole, kept = (statistics.median(seconds) for seconds in taken.values())
    alike = sum(a == b for a, b in zip(*tokens.values(), strict=True))
    counts = " | ".join(f"{count:,}" for count in rows.values())
    return (
        f"| {prompt_tokens:,} + {NEW_TOKENS} | {counts} | {whole:.2f} s | {kept:.2f} s | "
        f"**{whole / kept:.2f}** | {alike} of {NEW_TOKENS} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = random_model(asked.dtype)
    print(
        f"{platform.machine()}, torch {torch.__version__}, {asked.threads} threads, {asked.dtype}"
    )
    print("| tokens | rows, all | rows, kept | CPU, all | CPU, kept | ratio | tokens alike |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for prompt_tokens in asked.prompts:
        print(compare(model, prompt_tokens, asked.passes), flush=True)


if __name__ == "__main__":
    main()
