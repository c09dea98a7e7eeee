"""One optimizer step: predict, differentiate, sum, clip, update.

The device decides whether to clip and whether to drop the step; the host need not be asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

import torch

from illada_core.diffusion.corruption import Corrupted
from illada_core.diffusion.denoiser import Denoiser, Sums
from illada_core.model.transfer import Fetched, sent
from illada_core.training.optim import gradient_norm, update
from illada_core.training.parallel import Ranks, sum_tensor_over_ranks
from illada_core.training.sharding import sum_over_copies

# What is minimised, as sums over a micro-batch, by what the module says of it.
Objective: TypeAlias = Callable[[Denoiser, Corrupted], Sums]


def likelihood_bound(denoiser: Denoiser, noisy: Corrupted) -> Sums:
    """Return the sums of Eq. (1): the objective of pre-training and of fine-tuning."""
    return denoiser(noisy)


@dataclass(frozen=True)
class StepResult:
    """What a step did, over all ranks: its normalised loss, gradient norm before clipping.

    `token_pairs` are those that attended to each other, `head_rows` those that reached the head.
    """

    loss: float
    token_pairs: float
    head_rows: float
    grad_norm: float

    @staticmethod
    def of(fetched: Fetched) -> "StepResult":
        """Wait for the numbers of a step, and read them."""
        return StepResult(*fetched.read().tolist())

    @property
    def is_finite(self) -> bool:
        return isfinite(self.loss) and isfinite(self.grad_norm)


def train_step(
    denoiser: Denoiser,
    optimizer: torch.optim.AdamW,
    micro_batches: Sequence[Corrupted],
    objective: Objective,
    loss_count: int,
    clip_norm: float,
    ranks: Ranks,
) -> Fetched:
    """Update the weights by an objective over all micro-batches, as many on each rank.

    What is returned becomes a StepResult, once the device has come so far: nothing waits for it.
    `loss_count` is the global count that the loss is divided by; where nothing can be hidden it is
    0, and so are loss and gradient. A step whose loss or gradient norm is not finite leaves weights
    and moments as they were.
    """
    loss = torch.zeros((), device=ranks.device)
    for left, noisy in zip(reversed(range(len(micro_batches))), micro_batches, strict=True):
        sum_over_copies(denoiser, now=not left)
        micro = objective(denoiser, noisy.to(ranks.device)).nats / max(loss_count, 1)
        micro.backward()
        loss += micro.detach()
    counts = [
        sum(squared_lengths(noisy.segment_ends) for noisy in micro_batches if noisy.tokens),
        sum(len(noisy.targets_M) for noisy in micro_batches),
    ]
    counts_2 = sent(torch.tensor(counts, dtype=torch.float64), ranks.device)
    sums = sum_tensor_over_ranks(ranks, torch.cat([loss.double()[None], counts_2]))
    norm = gradient_norm(denoiser)
    is_sound = (sums[0] + norm).isfinite()
    update(optimizer, norm, clip_norm, is_sound, in_shards=ranks.world > 1)
    optimizer.zero_grad(set_to_none=True)
    return Fetched.of(torch.cat([sums, norm.double()[None]]))


def squared_lengths(ends: Sequence[int]) -> int:
    """Return the sum of squared segment lengths: the pairs of tokens that attend."""
    return sum((end - start) ** 2 for start, end in zip((0, *ends), ends, strict=False))
