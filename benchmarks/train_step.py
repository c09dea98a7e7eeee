"""Time our training step against a straightforward one, on the same weights, rows and noise.

    python benchmarks/train_step.py [--rounds 5] [--profile "ours bfloat16"]

The straightforward side is what one would write first: a transformers Llama made bidirectional,
rows as a batch [B, L], logits of every position, LLaDA's published loss rule (cross-entropy of
the hidden tokens over the masking probability, divided by B · L), torch's default AdamW. It runs
in float32, in bfloat16 under autocast (float32 weights, as ours), and with bfloat16 weights. Ours
in bfloat16 also runs with weights that are cast at each use.
Every round takes one step of each side in turn. Then the loader is timed on rows of that length.

Shapes: T packed tokens, B rows, L tokens of a row, V vocabulary, M hidden tokens.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from torch.profiler import ProfilerActivity, profile

from illada_core.data.batches import Share, read_batch
from illada_core.data.store.dataset import TokenDataset, open_dataset
from illada_core.data.store.frames import narrow, token_bytes_of
from illada_core.data.store.manifest import Manifest, write_manifest
from illada_core.data.store.shards import RowChunk, TokenShardWriter, shard_name
from illada_core.diffusion.corruption import Corrupted, Corruption, corrupt
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.attention import choose_backend
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.model.layouts import stored_names
from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord
from illada_core.training.casting import cast_once
from illada_core.training.optim import new_optimizer
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.keys import OptimizerKeys
from illada_core.training.source import row_source
from illada_core.training.step import StepResult, likelihood_bound, train_step

MASK_ID, SEED = 5, 0
OPTIMIZER = OptimizerKeys(peak_lr=1e-4)
CPU = torch.device("cpu")

Step = Callable[[], float]


def our_step(
    config: ModelConfig, dtype: torch.dtype, noisy: Corrupted, casts_once: bool = False
) -> Step:
    """Return a function that makes one step of ours and returns its loss.

    A run in bfloat16 casts its weights once, not at each use.
    """
    backend, _ = choose_backend(CPU, dtype)
    denoiser = Denoiser(new_model(config, SEED, compute_dtype=dtype, backend=backend))
    optimizer = new_optimizer(denoiser, OPTIMIZER)
    if casts_once:
        cast_once(denoiser.transformer, optimizer)
    count, clip, alone = noisy.loss_count, OPTIMIZER.clip_norm, Ranks(0, 1, CPU)

    def step() -> float:
        bound = likelihood_bound
        made = train_step(denoiser, optimizer, [noisy], bound, count, clip, alone)
        return StepResult.of(made).loss

    return step


def plain_step(
    config: ModelConfig, weights: torch.dtype, autocast: bool, noisy: Corrupted, rows: int
) -> Step:
    """Return a function that makes one step of the straightforward side and returns its loss."""
    model = bidirectional_llama(config).to(weights)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=OPTIMIZER.peak_lr, weight_decay=OPTIMIZER.weight_decay
    )
    noisy_BL = noisy.noisy_T.reshape(rows, -1)
    ids_BL = noisy.noisy_T.index_copy(0, noisy.hidden_M, noisy.targets_M).reshape_as(noisy_BL)
    probability_T = torch.ones(noisy_BL.numel())
    probability_BL = probability_T.index_copy(0, noisy.hidden_M, noisy.ratio_M).view_as(noisy_BL)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            logits_BLV = model(input_ids=noisy_BL).logits
            hidden_BL = noisy_BL == MASK_ID
            nll_M = F.cross_entropy(logits_BLV[hidden_BL], ids_BL[hidden_BL], reduction="none")
            loss = (nll_M / probability_BL[hidden_BL]).sum() / noisy_BL.numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def bidirectional_llama(config: ModelConfig) -> nn.Module:
    """Return a Llama of the same shape and weights whose attention sees both ways."""
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=config.ffn_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.max_length,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tied,
            use_cache=False,
        )
    )
    for layer in llama.model.layers:
        layer.self_attn.is_causal = False
    weights = new_model(config, SEED).state_dict()
    named = {theirs: weights[ours] for ours, theirs in stored_names(config, "illada").items()}
    missing, unexpected = llama.load_state_dict(named, strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if config.tied else [])
    return llama.train()


def write_rows(folder: Path, rows: int, row_tokens: int, vocab_size: int) -> TokenDataset:
    """Write a packed dataset of random rows, each a single segment."""
    ids = np.random.default_rng(SEED).integers(6, vocab_size, rows * row_tokens, dtype=np.uint32)
    lengths, none = np.full(rows, row_tokens), np.zeros(rows, np.int64)
    with TokenShardWriter(folder / shard_name(0, vocab_size), vocab_size, "benchmark") as shard:
        stored = narrow(ids, token_bytes_of(vocab_size))
        shard.add_rows(RowChunk(stored, lengths, lengths, lengths, none, none, none))
        entry = shard.close()
    record = TokenizerRecord("none", vocab_size, SpecialIds(bos=0, pad=1, eos=2, mask=MASK_ID))
    write_manifest(folder, Manifest("rows", record, (), {}, (entry,)))
    return open_dataset(folder)


def loader_seconds(dataset: TokenDataset, rule: Corruption, rows: int, steps: int) -> float:
    """Return the CPU seconds a step's rows take to be read, ordered and hidden, in any thread."""
    reading = row_source(dataset, rule, Share(rows, rows))(0)
    began = time.process_time()
    for _ in islice(reading, steps):
        pass
    reading.close()
    return (time.process_time() - began) / steps


def timed(step: Step) -> tuple[float, float]:
    """Return a step's seconds and its loss."""
    began = time.perf_counter()
    loss = step()
    return time.perf_counter() - began, loss


def profiled(step: Step) -> str:
    """Return the table of operators that a step spends its time in."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", metavar="SIDE", help="show where one side's time goes")
    parser.add_argument("--only", help="comma-separated sides to time")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(SEED)
    config = ModelConfig(
        vocab_size=32_768,
        width=asked.width,
        layers=asked.layers,
        heads=asked.width // 64,
        kv_heads=asked.width // 128,
        head_size=64,
        ffn_size=asked.width * 11 // 4,
        max_length=asked.row_tokens,
        mask_id=MASK_ID,
    )
    rule = Corruption(mask_id=MASK_ID, seed=SEED, ratio="stratified", split_probability=0.0)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_rows(Path(folder), 2048, asked.row_tokens, config.vocab_size)
        noisy = corrupt(read_batch(dataset, range(asked.rows), SEED), rule, asked.rows)
        loader_s = loader_seconds(dataset, rule, asked.rows, steps=200)
    sides = {
        "plain float32": lambda: plain_step(config, torch.float32, False, noisy, asked.rows),
        "plain autocast": lambda: plain_step(config, torch.float32, True, noisy, asked.rows),
        "plain bfloat16": lambda: plain_step(config, torch.bfloat16, False, noisy, asked.rows),
        "ours float32": lambda: our_step(config, torch.float32, noisy),
        "ours bfloat16": lambda: our_step(config, torch.bfloat16, noisy, casts_once=True),
        "ours casting": lambda: our_step(config, torch.bfloat16, noisy),
    }
    if asked.profile:
        print(profiled(sides[asked.profile]()))
        return
    steps = {name: make() for name, make in sides.items() if not asked.only or name in asked.only}
    for name, step in steps.items():
        seconds, loss = timed(step)
        print(f"{name:15} first step {seconds:6.3f} s, loss {loss:.5f}")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(asked.rounds):
        for name, step in steps.items():
            times[name].append(timed(step)[0])
    tokens = noisy.tokens
    for name, seconds in times.items():
        median = statistics.median(seconds)
        rate = tokens / median
        print(f"{name:15} {median:6.3f} s a step ({min(seconds):.3f} best), {rate:5.0f} tokens/s")
    for ours, plain, target in (
        ("ours float32", "plain float32", 1.3),
        ("ours bfloat16", "plain autocast", 1.3),
        ("ours bfloat16", "plain bfloat16", 1.3),
        ("ours bfloat16", "plain float32", 3.0),
        ("ours bfloat16", "ours casting", 1.0),
    ):
        if ours in times and plain in times:
            ratios = [slow / fast for slow, fast in zip(times[plain], times[ours], strict=True)]
            ratio = statistics.median(ratios)
            print(f"{ours} against {plain}: {ratio:.2f}x (at least {target}x wanted)")
    share = loader_s / statistics.median(times["ours bfloat16"])
    print(f"loader: {1e3 * loader_s:.2f} ms of CPU a step, {100 * share:.2f} % of ours bfloat16")


if __name__ == "__main__":
    main()
