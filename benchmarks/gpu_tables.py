"""How fast a device trains, generates and scores at the paper's shapes, with random weights.

Each table is a generator of rows. Times are medians of synchronised runs after a warm-up.

Shapes: T packed tokens, M asked rows.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import numpy as np
import torch

from benchmarks.gpu_checks import IDS, SEED, noisy_rows
from illada_core.diffusion.denoiser import Denoiser
from illada_core.inference.cache import Cache
from illada_core.inference.candidates import Choosing, OpenRows
from illada_core.inference.canvas import continuation
from illada_core.inference.rules import Rules
from illada_core.inference.sampler import Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.model.attention import PACKED_BACKENDS, choose_backend
from illada_core.model.config import ModelConfig, non_embedding_parameter_count
from illada_core.model.families.family import FULL_OWN
from illada_core.model.families.illada import ILLADA_8B
from illada_core.model.replay import Replay
from illada_core.model.transformer import Transformer
from illada_core.training.layers import wrap_layers
from illada_core.training.optim import new_optimizer
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.files import find_recipe, load_recipe
from illada_core.training.recipe.footprint import memory_bytes
from illada_core.training.recipe.keys import Recipe
from illada_core.training.recipe.plan import step_flops
from illada_core.training.step import likelihood_bound, squared_lengths, train_step

Row = dict[str, object]

TINY = ModelConfig(
    vocab_size=512,
    width=64,
    layers=3,
    heads=4,
    kv_heads=2,
    head_size=16,
    ffn_size=128,
    max_length=2048,
    mask_id=5,
)


@dataclass
class Machine:
    """A device, and whether sizes are to be tiny."""

    device: torch.device
    smoke: bool

    def seconds(self, work: Callable[[], object], repeats: int = 5) -> float:
        """Return the median time of some work, the device waited for."""
        taken = []
        for _ in range(2 if self.smoke else repeats + 2):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - started)
        return statistics.median(taken[1 if self.smoke else 2 :])

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @cached_property
    def ceilings(self) -> dict[str, float]:
        """What the device reaches at best: a large copy, a large product in bfloat16."""
        size = 256 if self.smoke else 8192
        left, right = (
            torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2)
        )
        many = torch.empty(1 << (16 if self.smoke else 30), device=self.device)
        other = torch.empty_like(many)
        products = self.seconds(lambda: left @ right, 20)
        copies = self.seconds(lambda: other.copy_(many), 20)
        return {
            "tflops": 2 * size**3 / products / 1e12,
            "terabytes_per_s": 2 * many.nbytes / copies / 1e12,
        }

    def told(self) -> str:
        rates = self.ceilings
        return (
            f"ceilings: {rates['tflops']:.0f} TFLOP/s in bfloat16, "
            f"{rates['terabytes_per_s']:.2f} TB/s"
        )

    def forget(self) -> None:
        """Give memory back between rows, and begin to count its peak."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float:
        """Return the most memory since then, in GB; nan on a CPU."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if on_gpu else float("nan")


def random_model(config: ModelConfig, machine: Machine, dtype: torch.dtype) -> Transformer:
    """Return a model whose weights the device draws: the paper's shape in seconds."""
    backend, _ = choose_backend(machine.device, torch.bfloat16, "auto", config.head_size)
    torch.manual_seed(SEED)
    with torch.device(machine.device):
        model = Transformer(config, torch.bfloat16, backend).to(dtype)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def layer_rows(machine: Machine) -> Iterator[Row]:
    """Time layers of the 8B at 8,192 tokens, forward and backward, by how they are run."""
    config = TINY if machine.smoke else ILLADA_8B
    tokens = 256 if machine.smoke else 8192
    noisy = noisy_rows(1, tokens, config.vocab_size).to(machine.device)
    few, many = 1, 3
    ways = [(False, "none"), (True, "none"), (True, "selective"), (True, "full")]
    for compiles, recompute in ways[: 1 if machine.smoke else None]:
        taken = {}
        for layers in (few, many):
            machine.forget()
            model = random_model(replace(config, layers=layers), machine, torch.float32)
            wrap_layers(model, compiles, recompute)
            denoiser = Denoiser(model)

            def work(denoiser: Denoiser = denoiser) -> None:
                denoiser(noisy).nats.backward()
                denoiser.zero_grad(set_to_none=True)

            taken[layers] = machine.seconds(work)
            peak = machine.peak()
            del model, denoiser, work
        layer = (taken[many] - taken[few]) / (many - few)
        pairs = squared_lengths(noisy.segment_ends)
        shape = replace(config, layers=1)
        body = 6 * non_embedding_parameter_count(shape) * tokens
        flops = body + 12 * config.heads * config.head_size * pairs
        rate = flops / layer / 1e12
        yield {
            "layer": "compiled" if compiles else "eager",
            "recompute": recompute,
            "ms": round(1e3 * layer, 2),
            "TFLOP/s": round(rate, 1),
            "of the ceiling": f"{rate / machine.ceilings['tflops']:.0%}",
            "rest ms": round(1e3 * (taken[few] - few * layer), 2),
            "peak GB": round(peak, 1),
        }


def recipe_rows(machine: Machine) -> Iterator[Row]:
    """Time whole optimizer steps of the recipe 1b, a few micro-batches each; memory by the plan."""
    recipe = load_recipe(find_recipe("1b"))
    keys = recipe.model
    tokens = 128 if machine.smoke else keys.max_length
    config = TINY if machine.smoke else fresh_shape(recipe)
    for compiles in (False,) if machine.smoke else (True, False):
        machine.forget()
        denoiser = Denoiser(random_model(config, machine, torch.float32))
        wrap_layers(denoiser.transformer, compiles, recipe.run.recompute)
        optimizer = new_optimizer(denoiser, recipe.optimizer)
        rows = recipe.batch.micro_rows
        micros = [noisy_rows(rows, tokens, config.vocab_size)] * 2
        count = sum(micro.loss_count for micro in micros)
        alone, clip = Ranks(0, 1, machine.device), recipe.optimizer.clip_norm

        work = partial(
            *(train_step, denoiser, optimizer, micros, likelihood_bound, count, clip, alone)
        )
        seconds = machine.seconds(work, 4)
        pairs = sum(squared_lengths(micro.segment_ends) for micro in micros)
        hidden = sum(len(micro.targets_M) for micro in micros)
        trained = sum(micro.tokens for micro in micros)
        rate = step_flops(config, trained, pairs, hidden) / seconds / 1e12
        planned = sum(memory_bytes(recipe, config, rows * tokens, 0.5, shard=1).values()) / 1e9
        yield {
            "recipe": "1b",
            "layers": "compiled" if compiles else "eager",
            "tokens/s": round(trained / seconds),
            "TFLOP/s": round(rate, 1),
            "peak GB": round(machine.peak(), 1),
            "planned GB": round(planned, 1),
        }
        del denoiser, optimizer, work


def fresh_shape(recipe: Recipe) -> ModelConfig:
    """Return the shape of a recipe, with the vocabulary of the paper."""
    keys = recipe.model
    return replace(
        ILLADA_8B,
        layers=keys.layers,
        width=keys.width,
        heads=keys.heads,
        kv_heads=keys.kv_heads,
        head_size=keys.width // keys.heads,
        ffn_size=keys.ffn_size,
        max_length=keys.max_length,
    )


def training(machine: Machine) -> Iterator[Row]:
    yield from layer_rows(machine)
    yield from recipe_rows(machine)


def generation(machine: Machine) -> Iterator[Row]:
    """Count forwards of the 8B a second, alone and eight at once, with and without a cache."""
    machine.forget()
    config = TINY if machine.smoke else ILLADA_8B
    model = random_model(config, machine, torch.bfloat16).requires_grad_(False)
    weight_bytes = sum(each.nbytes for each in model.parameters())
    roof = machine.ceilings["terabytes_per_s"] * 1e12 / weight_bytes
    new = 16 if machine.smoke else 64
    cases = ((1, 128), (1, 1024), (8, 32)) if not machine.smoke else ((1, 16), (2, 8))
    passes = {"computed": model}
    if model.backend in PACKED_BACKENDS:
        passes["replayed"] = Replay(model)
    for count, prompt in cases:
        ways = [(how, ahead) for how in passes for ahead in (1, 4)]
        for cache, (how, ahead) in product(("none", "block"), ways):
            settings = Settings(
                max_new_tokens=new, block_length=32, steps_per_block=16, cache=cache
            )
            tasks = [
                continuation(list(range(100 + n, 100 + n + prompt)), new) for n in range(count)
            ]
            calls = 0

            own, kept = passes[how], Cache(passes[how], 16_384, FULL_OWN)

            def write(tasks=tasks, settings=settings, own=own, kept=kept, ahead=ahead) -> None:
                nonlocal calls
                sampler = Sampler(own.logits_at, IDS, 16_384, kept, ahead)
                generate(sampler, tasks, settings)
                calls = sampler.forwards

            seconds = machine.seconds(write, 2)
            yield {
                "prompts": f"{count} x {prompt}",
                "cache": cache,
                "passes": how,
                "ahead": ahead,
                "forwards/s": round(calls / seconds, 1),
                "of the roof": f"{calls / seconds / roof:.0%}",
                "tokens/s": round(count * new / seconds, 1),
                "peak GB": round(machine.peak(), 1),
            }


def choice(machine: Machine) -> Iterator[Row]:
    """Time the choice of 32 tokens of the 8B's vocabulary: operator by operator, and compiled."""
    vocab_size = TINY.vocab_size if machine.smoke else ILLADA_8B.vocab_size
    logits_MV = torch.randn(32, vocab_size, device=machine.device)
    zeros = np.zeros(32, np.int64)
    rows = OpenRows(np.zeros((32, 2), np.int64), zeros, zeros, np.arange(32), np.ones(32, bool))
    choosing = Choosing(rows, Rules(ids=IDS), machine.device)
    ways = {"operator by operator": choosing.choose_rows}
    if not machine.smoke:
        ways["compiled"] = torch.compile(choosing.choose_rows)
    for name, choose in ways.items():

        @torch.inference_mode()
        def work(choose=choose) -> None:
            choose(logits_MV, None)

        yield {"choice": name, "ms": round(1e3 * machine.seconds(work), 3)}


def scoring(machine: Machine) -> Iterator[Row]:
    """Count packed tokens of the 8B a second, a tenth of the rows asked for."""
    machine.forget()
    config = TINY if machine.smoke else ILLADA_8B
    model = random_model(config, machine, torch.bfloat16).requires_grad_(False)
    for tokens, length in ((1024, 128),) if machine.smoke else ((16_384, 128), (16_384, 2048)):
        ids_T = torch.randint(6, config.vocab_size, (tokens,), device=machine.device)
        ends = tuple(range(length, tokens + 1, length))
        rows_M = torch.arange(0, tokens, 10, device=machine.device)

        @torch.inference_mode()
        def ask(ids_T=ids_T, ends=ends, rows_M=rows_M) -> None:
            model.logits_at(ids_T, ends, rows_M)

        seconds = machine.seconds(ask)
        body = 2 * non_embedding_parameter_count(config) * tokens
        pairs = 4 * config.layers * config.heads * config.head_size * tokens * length
        rate = (body + pairs) / seconds / 1e12
        yield {
            "segments": f"{len(ends)} x {length}",
            "tokens/s": round(tokens / seconds),
            "TFLOP/s": round(rate, 1),
            "peak GB": round(machine.peak(), 1),
        }


TABLES: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "generation": generation,
    "choice": choice,
    "scoring": scoring,
    "training": training,
}
