"""Whether a device computes what the CPU does in float32: one function for each claim.

Each returns whether it holds (None where the machine lacks what it needs) and a figure.

Shapes: T packed tokens, M asked rows, V vocabulary.
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from illada_core.data.batches import Batch
from illada_core.diffusion.corruption import Corrupted, Corruption, corrupt
from illada_core.diffusion.denoiser import Denoiser
from illada_core.errors import UsageError
from illada_core.inference.cache import Cache
from illada_core.inference.candidates import Choosing, OpenRows
from illada_core.inference.canvas import continuation
from illada_core.inference.draws import gumbel_noise
from illada_core.inference.rules import ModelIds, Rules
from illada_core.inference.sampler import Completion, Sampler, generate
from illada_core.inference.settings import Settings
from illada_core.model.attention import BACKENDS, choose_backend
from illada_core.model.config import ModelConfig
from illada_core.model.families.family import FULL_OWN
from illada_core.model.initial import new_model
from illada_core.model.replay import Replay
from illada_core.model.transformer import Transformer
from illada_core.noise import philox
from illada_core.training.layers import compile_layers
from illada_core.training.optim import new_optimizer
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.keys import OptimizerKeys
from illada_core.training.step import StepResult, likelihood_bound, train_step

Verdict = tuple[bool | None, str]

MASK_ID, SEED = 5, 0
SHAPE = ModelConfig(
    vocab_size=1024,
    width=256,
    layers=4,
    heads=4,
    kv_heads=2,
    head_size=64,
    ffn_size=704,
    max_length=1024,
    mask_id=MASK_ID,
)
LENGTHS = (7, 130, 64, 1, 300)
NEAR = {torch.float32: 1e-3, torch.bfloat16: 3e-2}  # of the largest logit
SETTINGS = Settings(block_length=16, max_new_tokens=32, steps_per_block=4)
IDS = ModelIds(MASK_ID)


@cache
def model_on(device: torch.device, dtype: torch.dtype, backend: str = "auto") -> Transformer:
    """Return the same random model everywhere, its weights rounded to bfloat16 first."""
    name, _ = choose_backend(device, dtype, backend, SHAPE.head_size)
    rounded = new_model(SHAPE, SEED, dtype=torch.bfloat16)
    model = new_model(SHAPE, SEED, device, dtype=dtype, backend=name)
    model.load_state_dict(rounded.state_dict())
    return model.requires_grad_(False)


def reference() -> Transformer:
    return model_on(torch.device("cpu"), torch.float32, "sdpa")


def segments(seed: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randint(6, SHAPE.vocab_size, (length,), generator=draws) for length in LENGTHS]


def logits(model: Transformer, texts: list[Tensor]) -> Tensor:
    """Return the logits of every position, on the CPU in float32."""
    device = model.embedding.weight.device
    ends = torch.tensor([len(text) for text in texts]).cumsum(0).tolist()
    rows_M = torch.arange(ends[-1], device=device)
    with torch.inference_mode():
        found = model.logits_at(torch.cat(texts).to(device), tuple(ends), rows_M)
    return found.float().cpu()


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest value; nan where there is one."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def check_backends(device: torch.device) -> Verdict:
    """Every kernel that runs here gives the logits of the CPU's plain one."""
    expected, texts = logits(reference(), segments(1)), segments(1)
    figures, passed = [], True
    for dtype, near in NEAR.items():
        for name in BACKENDS:
            try:
                choose_backend(device, dtype, name, SHAPE.head_size)
            except UsageError:
                continue
            found = distance(logits(model_on(device, dtype, name), texts), expected)
            figures.append(f"{name} {str(dtype).removeprefix('torch.')} {found:.1e}")
            passed &= found < near
    return passed, ", ".join(figures)


def check_leaks(device: torch.device) -> Verdict:
    """Another text beside them leaves the logits of the others as they were, bit for bit."""
    model = model_on(device, torch.bfloat16)
    before, after = segments(1), segments(1)
    after[-1] = segments(2)[-1]
    kept = sum(LENGTHS[:-1])
    changed = (logits(model, before)[:kept] - logits(model, after)[:kept]).abs().max().item()
    return changed == 0, f"largest change {changed:.1e}"


def check_company(device: torch.device) -> Verdict:
    """How near logits alone are to those in company: a figure only, kernels may round otherwise."""
    model, texts = model_on(device, torch.bfloat16), segments(1)
    together = logits(model, texts).split(list(LENGTHS))
    apart = [
        distance(logits(model, [one]), other) for one, other in zip(texts, together, strict=True)
    ]
    equal = sum(each == 0 for each in apart)
    figure = f"{equal} of {len(apart)} equal, worst {max(apart):.1e}"
    return max(apart) < NEAR[torch.bfloat16], figure


def noisy_rows(rows: int, tokens: int, vocab_size: int = SHAPE.vocab_size) -> Corrupted:
    """Return rows of one segment with tokens hidden by the paper's rule."""
    ids = np.random.default_rng(SEED).integers(6, vocab_size, rows * tokens, dtype=np.uint32)
    ends, places = np.arange(1, rows + 1) * tokens, np.arange(rows)
    batch = Batch(ids, ends, ends, places, np.zeros(rows, np.int64), places)
    return corrupt(batch, Corruption(mask_id=MASK_ID, seed=SEED), rows)


def gradients(model: Transformer, noisy: Corrupted) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of a micro-batch and the gradient of every weight, on the CPU."""
    model = copy.deepcopy(model).requires_grad_(True)
    device = model.embedding.weight.device
    loss = Denoiser(model)(noisy.to(device)).nats / noisy.loss_count
    loss.backward()
    return loss.item(), {name: each.grad.float().cpu() for name, each in model.named_parameters()}


def check_gradients(device: torch.device) -> Verdict:
    """Loss and gradients of a ragged micro-batch, in both dtypes."""
    noisy = noisy_rows(3, 200)
    expected_loss, expected = gradients(reference(), noisy)
    figures, passed = [], True
    for dtype, near in NEAR.items():
        loss, found = gradients(model_on(device, dtype), noisy)
        worst = max(
            ((found[name] - each).norm() / each.norm()).item() for name, each in expected.items()
        )
        figures.append(f"{str(dtype).removeprefix('torch.')} loss {loss / expected_loss - 1:+.1e}")
        figures.append(f"worst gradient {worst:.1e}")
        passed &= abs(loss / expected_loss - 1) < near and worst < 2 * near
    return passed, ", ".join(figures)


def check_step(device: torch.device) -> Verdict:
    """Optimizer steps on one micro-batch bring its loss down, as on the CPU."""
    noisy, keys = noisy_rows(2, 128), OptimizerKeys(peak_lr=1e-3)
    losses = {}
    for place in (torch.device("cpu"), device):
        name, _ = choose_backend(place, torch.bfloat16, "auto", SHAPE.head_size)
        model = new_model(SHAPE, SEED, place, compute_dtype=torch.bfloat16, backend=name)
        denoiser = Denoiser(model)
        optimizer, alone = new_optimizer(denoiser, keys), Ranks(0, 1, place)
        count, bound = noisy.loss_count, likelihood_bound
        losses[place.type] = [
            StepResult.of(
                train_step(denoiser, optimizer, [noisy], bound, count, keys.clip_norm, alone)
            ).loss
            for _ in range(6)
        ]
    found, expected = losses[device.type], losses["cpu"]
    apart = max(abs(one / other - 1) for one, other in zip(found, expected, strict=True))
    return found[-1] < found[0] and apart < 2e-2, (
        f"{found[0]:.3f} to {found[-1]:.3f}, at most {apart:.1e} from the CPU's"
    )


def check_waiting(device: torch.device) -> Verdict:
    """A step asks for nothing that the host would have to wait for, after the first two."""
    if device.type != "cuda":
        return None, "there is nothing to wait for"
    noisy, keys = noisy_rows(2, 128), OptimizerKeys(peak_lr=1e-3)
    name, _ = choose_backend(device, torch.bfloat16, "auto", SHAPE.head_size)
    denoiser = Denoiser(new_model(SHAPE, SEED, device, compute_dtype=torch.bfloat16, backend=name))
    optimizer, alone = new_optimizer(denoiser, keys), Ranks(0, 1, device)
    arguments = (denoiser, optimizer, [noisy, noisy], likelihood_bound, 256, 1.0, alone)
    for _ in range(2):
        StepResult.of(train_step(*arguments))
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(*arguments)
    except RuntimeError as error:
        return False, str(error)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return True, "none"


def check_noise(device: torch.device) -> Verdict:
    """Random words are the same bits; Gumbel noise differs by roundings only."""
    counter = torch.arange(100_000)
    words = [philox((counter.to(place), 3, 2**31, 9), (7, 2**32 - 1)) for place in ("cpu", device)]
    same = all(torch.equal(one, other.cpu()) for one, other in zip(*words, strict=True))
    keys = torch.stack([torch.arange(64), *(torch.full((64,), n) for n in (3, 1, 0, 9))])
    noises = [gumbel_noise(keys.to(place), 1000).cpu() for place in ("cpu", device)]
    apart = (noises[0] - noises[1]).abs().max().item()
    return same and apart < 1e-10, f"words {'equal' if same else 'DIFFER'}, noise {apart:.1e} apart"


def check_choice(device: torch.device) -> Verdict:
    """Tokens and confidences chosen of the same logits, by every way to choose."""
    logits_MV = torch.randn(200, 5000, generator=torch.Generator().manual_seed(SEED)) * 4
    position_M = np.arange(200)
    seeds, zeros = np.zeros((200, 2), np.int64), np.zeros(200, np.int64)
    rows = OpenRows(seeds, zeros, zeros, position_M, np.ones(200, bool))
    ways = ({}, {"temperature": 0.7}, {"temperature": 0.2}, {"temperature": 1.0, "top_p": 0.9})
    ways += ({"remasking": "entropy"}, {"remasking": "margin"})
    different, apart = 0, 0.0
    for way in ways:
        rules = Rules(ids=IDS, settings=replace(SETTINGS, **way))
        here = Choosing(rows, rules, "cpu").choose(logits_MV.clone()).numbers
        there = Choosing(rows, rules, device).choose(logits_MV.clone().to(device)).numbers.cpu()
        different += int((here[0] != there[0]).sum())
        apart = max(apart, float((here[2] - there[2]).abs().max()))
    return different == 0 and apart < 1e-4, f"{different} tokens differ, confidences {apart:.1e}"


def continued(
    model: Transformer | Replay, settings: Settings, together: bool, ahead: int = 1
) -> list[Completion]:
    """Continue ragged prompts, in one packed call a step or one by one."""
    tasks = [continuation(text.tolist(), 32) for text in segments(3)]
    groups = [tasks] if together else [[task] for task in tasks]
    found: list[Completion] = []
    for group in groups:
        sampler = Sampler(model.logits_at, IDS, cache=Cache(model, 4096, FULL_OWN), ahead=ahead)
        found += generate(sampler, group, settings)
    return found


def alike(found: list[Completion], expected: list[Completion]) -> tuple[int, int]:
    pairs = [
        (one, other)
        for text, exact in zip(found, expected, strict=True)
        for one, other in zip(text.output_ids, exact.output_ids, strict=True)
    ]
    return sum(one == other for one, other in pairs), len(pairs)


def check_generation(device: torch.device) -> Verdict:
    """Greedy tokens in float32 are the CPU's; in company they are those alone."""
    model = model_on(device, torch.float32)
    found = continued(model, SETTINGS, together=True)
    same, count = alike(found, continued(reference(), SETTINGS, together=False))
    company, _ = alike(found, continued(model, SETTINGS, together=False))
    passed = same > 0.95 * count and company > 0.95 * count
    return passed, f"{same} of {count} are the CPU's, {company} those alone (ties may differ)"


def check_cache(device: torch.device) -> Verdict:
    """A refresh at each step gives the texts of no cache; a cache without gives some."""
    figures, passed = [], True
    for dtype in NEAR:
        model = model_on(device, dtype)
        exact = continued(model, SETTINGS, together=True)
        every = continued(model, replace(SETTINGS, cache="block", refresh_every=1), together=True)
        kept = continued(model, replace(SETTINGS, cache="block"), together=True)
        same, count = alike(every, exact)
        near, _ = alike(kept, exact)
        passed &= same == count and not any(each.exact for each in kept)
        name = str(dtype).removeprefix("torch.")
        figures.append(f"{name}: {same} of {count} alike refreshed, {near} kept")
    return passed, "; ".join(figures)


def check_graphs(device: torch.device) -> Verdict:
    """Replayed passes give the logits of those that are computed, and the texts."""
    if device.type != "cuda":
        return None, "graphs are of GPUs"
    model = model_on(device, torch.bfloat16)
    replayed, worst = Replay(model), 0.0
    for seed in range(4):
        ids_T, ends = torch.cat(segments(seed)[: 2 + seed % 2]), LENGTHS[: 2 + seed % 2]
        ends, rows_M = tuple(np.cumsum(ends).tolist()), torch.arange(0, len(ids_T), 3)
        with torch.inference_mode():
            expected = model.logits_at(ids_T, ends, rows_M).float().cpu()
            found = replayed.logits_at(ids_T, ends, rows_M).float().cpu()
        worst = max(worst, distance(found, expected))
    kept = replace(SETTINGS, cache="block")
    same, count = alike(continued(replayed, kept, True), continued(model, kept, True))
    passed = worst < NEAR[torch.bfloat16] and same > 0.95 * count
    return passed, f"logits {worst:.1e} apart, {same} of {count} tokens alike"


def check_ahead(device: torch.device) -> Verdict:
    """Steps decided on the device write the texts of one at a time; the host waits once for all."""
    model = model_on(device, torch.bfloat16)
    same = count = 0
    ways = ({}, {"cache": "block"}, {"threshold": 0.02}, {"temperature": 0.5, "seed": 3})
    for way in ways:
        settings = replace(SETTINGS, **way)
        texts = continued(model, settings, True, 4), continued(model, settings, True)
        of_way = alike(*texts)
        same, count = same + of_way[0], count + of_way[1]
    figure, passed = f"{same} of {count} tokens alike", same > 0.95 * count
    if device.type == "cuda":
        sampler = Sampler(model.logits_at, IDS, ahead=4)
        sampler.add(continuation(segments(0)[0].tolist(), 32, grows=False), SETTINGS)
        sampler.step()
        waits = waited(sampler.step)
        figure, passed = f"{figure}, {waits} waits in 4 steps", passed and waits == 1
    return passed, figure


def waited(work: Callable[[], object]) -> int:
    """Count how often a host waits for its GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(each.message) for each in told)


def check_compiled(device: torch.device) -> Verdict:
    """Compiled layers give the loss and gradients of plain ones, over two packings."""
    plain = model_on(device, torch.bfloat16)
    compiled = copy.deepcopy(plain)
    worst = 0.0
    for rows, tokens in ((3, 200), (2, 333)):
        expected_loss, _ = gradients(plain, noisy_rows(rows, tokens))
        model = copy.deepcopy(compiled).requires_grad_(True)
        compile_layers(model, "inductor" if device.type == "cuda" else "eager")
        noisy = noisy_rows(rows, tokens)
        loss = (Denoiser(model)(noisy.to(device)).nats / noisy.loss_count).item()
        worst = max(worst, abs(loss / expected_loss - 1))
    return worst < NEAR[torch.bfloat16], f"losses {worst:.1e} apart"


def check_quantized(device: torch.device) -> Verdict:
    """Rounded weights stay near: mean divergence of the next token, in nats."""
    if importlib.util.find_spec("torchao") is None:
        return None, "torchao is not installed"
    from illada_core.model.quantized import quantize

    texts, figures, passed = segments(1), [], True
    exact = logits(model_on(device, torch.bfloat16), texts).log_softmax(-1)
    for kind, limit in (("int8", 1e-2), ("int4", 0.3)):
        model = copy.deepcopy(model_on(device, torch.bfloat16))
        try:
            quantize(model, kind, device)
        except UsageError as error:
            figures.append(f"{kind}: {error.sentence}")
            continue
        found = logits(model, texts).log_softmax(-1)
        divergence = (exact.exp() * (exact - found)).sum(-1).mean().item()
        figures.append(f"{kind} {divergence:.1e}")
        passed &= divergence < limit
    return passed, ", ".join(figures)


CHECKS: dict[str, Callable[[torch.device], Verdict]] = {
    "attention kernels": check_backends,
    "segments do not leak": check_leaks,
    "alone and in company": check_company,
    "loss and gradients": check_gradients,
    "optimizer steps": check_step,
    "waits in a step": check_waiting,
    "random numbers": check_noise,
    "choice of tokens": check_choice,
    "generation": check_generation,
    "cached generation": check_cache,
    "passes replayed as graphs": check_graphs,
    "steps decided ahead": check_ahead,
    "compiled layers": check_compiled,
    "weights in 8 and 4 bits": check_quantized,
}
