"""One optimizer step: hide, predict, differentiate, sum, clip, update.

Shapes: T packed tokens, C channels, V vocabulary, M hidden tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch

from illada_core.data.batches import Batch
from illada_core.diffusion.loss import masked_cross_entropy
from illada_core.diffusion.objective import Objective, corrupt
from illada_core.model.attention import Segments
from illada_core.model.transformer import Transformer
from illada_core.training.optim import clip_gradients
from illada_core.training.parallel import Ranks, sum_gradients, sum_tensor_over_ranks


@dataclass(frozen=True)
class StepResult:
    """What a step did, over all ranks: its normalised loss, gradient norm before clipping.

    `token_pairs` are those that attended to each other, `head_rows` those that reached the head.
    """

    loss: float
    token_pairs: float
    head_rows: float
    grad_norm: float

    @property
    def is_finite(self) -> bool:
        return isfinite(self.loss) and isfinite(self.grad_norm)


def train_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    objective: Objective,
    rows_per_step: int,
    loss_count: int,
    clip_norm: float,
    ranks: Ranks,
) -> StepResult:
    """Update the weights by Eq. (1) over all micro-batches of all ranks.

    `loss_count` is the global count that the loss is divided by; where nothing can be hidden it is
    0, and so are loss and gradient. A step whose loss or gradient norm is not finite leaves weights
    and moments as they were.
    """
    loss = torch.zeros((), device=ranks.device)
    token_pairs = head_rows = 0
    for batch in batches:
        noisy = corrupt(batch, objective, rows_per_step, ranks.device)
        segments = Segments.of(noisy.segment_ends, ranks.device)
        hidden_MC = model(noisy.noisy_T, segments, noisy.hidden_M)
        nats, _ = masked_cross_entropy(
            hidden_MC, model.head_weight_VC, noisy.targets_M, noisy.weight_M
        )
        micro = nats / max(loss_count, 1)
        micro.backward()
        loss += micro.detach()
        token_pairs += squared_lengths(noisy.segment_ends)
        head_rows += len(noisy.targets_M)
    parameters = [each for each in model.parameters() if each.requires_grad]
    sum_gradients(ranks, parameters)
    counts = torch.tensor([token_pairs, head_rows], dtype=torch.float64, device=ranks.device)
    sums = sum_tensor_over_ranks(ranks, torch.cat([loss.double()[None], counts]))
    norm = clip_gradients(parameters, clip_norm)
    result = StepResult(*torch.cat([sums, norm.double()[None]]).tolist())
    if result.is_finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result


def squared_lengths(ends: Sequence[int]) -> int:
    """Return the sum of squared segment lengths: the pairs of tokens that attend."""
    return sum((end - start) ** 2 for start, end in zip((0, *ends), ends, strict=False))
