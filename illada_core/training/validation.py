"""The bound on held-out rows, always under the same noise, so that runs and steps compare.

Shapes: T packed tokens, C channels, V vocabulary, M hidden tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, log, nan

import torch

from illada_core.data.batches import read_batch
from illada_core.data.store.dataset import TokenDataset
from illada_core.diffusion.loss import masked_cross_entropy
from illada_core.diffusion.objective import Objective, corrupt, loss_count
from illada_core.model.attention import Segments
from illada_core.model.transformer import Transformer
from illada_core.training.parallel import Ranks, sum_tensor_over_ranks
from illada_core.training.task import NOISE_SEED

RATIO_BINS = 10


@dataclass(frozen=True)
class Validation:
    """A bound in nats per token; by masking ratio, in nats per hidden token (None: none hidden).

    `tokens` are those that the bound is about: all, or those of the responses.
    """

    loss: float
    tokens: int
    loss_by_ratio: tuple[float | None, ...]

    @property
    def perplexity(self) -> float:
        return exp(min(self.loss, 700.0))

    def bits_per_byte(self, bytes_per_token: float) -> float:
        return self.loss / log(2) / bytes_per_token


def validation_objective(objective: Objective, has_turns: bool) -> Objective:
    """Return the rule with the least variance that still bounds the likelihood of whole segments.

    Where turns are known it is that of the responses given the prompts, whatever is trained on.

    An exact count of hidden tokens takes away the noise of their number, which the weight 1/p
    makes large at low ratios; ratios are spread evenly over the rows.
    """
    return replace(
        objective,
        masking="fixed-count",
        ratio="stratified",
        split_probability=0.0,
        mask="response" if has_turns else "all",
        normalize="tokens",
        seed=NOISE_SEED,
    )


@torch.no_grad()
def validate(
    model: Transformer,
    dataset: TokenDataset,
    rows: int,
    objective: Objective,
    micro_rows: int,
    ranks: Ranks,
) -> Validation:
    """Return the bound over `rows` rows; beyond one pass rows come again under other noise."""
    # 0: nats of the bound, 1: its tokens; then the nats of each bin, then its hidden tokens.
    sums = torch.zeros(2 + 2 * RATIO_BINS, dtype=torch.float64, device=ranks.device)
    for group in shares(rows, micro_rows, ranks):
        batch = read_batch(dataset, group, NOISE_SEED)
        noisy = corrupt(batch, objective, rows, ranks.device)
        segments = Segments.of(noisy.segment_ends, ranks.device)
        hidden_MC = model(noisy.noisy_T, segments, noisy.hidden_M)
        nats, nll_M = masked_cross_entropy(
            hidden_MC, model.head_weight_VC, noisy.targets_M, noisy.weight_M
        )
        bin_M = (noisy.ratio_M * RATIO_BINS).long().clamp(0, RATIO_BINS - 1)
        sums[0] += nats.double()
        sums[1] += loss_count(batch, objective)
        sums[2 : 2 + RATIO_BINS].index_add_(0, bin_M, nll_M.double())
        sums[2 + RATIO_BINS :] += torch.bincount(bin_M, minlength=RATIO_BINS)
    nats_sum, tokens, *bins = sum_tensor_over_ranks(ranks, sums).tolist()
    return Validation(
        loss=nats_sum / tokens if tokens else nan,
        tokens=int(tokens),
        loss_by_ratio=tuple(
            nats / count if count else None
            for nats, count in zip(bins[:RATIO_BINS], bins[RATIO_BINS:], strict=True)
        ),
    )


def shares(rows: int, micro_rows: int, ranks: Ranks) -> Iterator[list[int]]:
    """Yield the places of this rank's micro-batches."""
    own = range(ranks.rank, rows, ranks.world)
    for start in range(0, len(own), micro_rows):
        yield list(own[start : start + micro_rows])
