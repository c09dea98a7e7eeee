"""The bound on held-out rows, always under the same noise, so that runs and steps compare.

Shapes: M hidden tokens.
"""

from dataclasses import dataclass, replace
from math import exp, log, nan

import torch

from illada_core.data.batches import Share
from illada_core.data.store.dataset import TokenDataset
from illada_core.diffusion.corruption import Corruption
from illada_core.diffusion.denoiser import Denoiser
from illada_core.training.parallel import Ranks, sum_tensor_over_ranks
from illada_core.training.setup import NOISE_SEED
from illada_core.training.sharding import without_gradients
from illada_core.training.source import noisy_rows

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


def validation_rule(rule: Corruption, has_turns: bool) -> Corruption:
    """Return the rule with the least variance that still bounds the likelihood of whole segments.

    Where turns are known it is that of the responses given the prompts, whatever is trained on.

    An exact count of hidden tokens takes away the noise of their number, which the weight 1/p
    makes large at low ratios; ratios are spread evenly over the rows.
    """
    return replace(
        rule,
        masking="fixed-count",
        ratio="stratified",
        weights="ratio",
        split_probability=0.0,
        mask="response" if has_turns else "all",
        normalize="tokens",
        seed=NOISE_SEED,
        anneal_rows=0,
    )


def validate(
    denoiser: Denoiser, dataset: TokenDataset, rule: Corruption, share: Share, ranks: Ranks
) -> Validation:
    """Return the bound over the rows of all shares; beyond one pass under other noise."""
    # 0: nats of the bound, 1: its tokens; then the nats of each bin, then its hidden tokens.
    sums = torch.zeros(2 + 2 * RATIO_BINS, dtype=torch.float64, device=ranks.device)
    with without_gradients(denoiser):
        for places in share.micro_places(step=0):
            noisy = noisy_rows(dataset, rule, share, places).to(ranks.device)
            nats, nll_M = denoiser(noisy)
            bin_M = (noisy.ratio_M * RATIO_BINS).long().clamp(0, RATIO_BINS - 1)
            sums[0] += nats.double()
            sums[1] += noisy.loss_count
            sums[2 : 2 + RATIO_BINS].index_add_(0, bin_M, nll_M.double())
            sums[2 + RATIO_BINS :].index_add_(0, bin_M, torch.ones_like(nll_M, dtype=sums.dtype))
    nats_sum, tokens, *bins = sum_tensor_over_ranks(ranks, sums).tolist()
    return Validation(
        loss=nats_sum / tokens if tokens else nan,
        tokens=int(tokens),
        loss_by_ratio=tuple(
            nats / count if count else None
            for nats, count in zip(bins[:RATIO_BINS], bins[RATIO_BINS:], strict=True)
        ),
    )
