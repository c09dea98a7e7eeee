"""When candidates become tokens: step quotas, commit rules, the end-of-thinking boost.

Pure functions. Commits are of many prompts at once, on the device of the candidates; ties go to the
leftmost position. Shapes: N prompts, B open positions of one.
"""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from illada_core.inference.candidates import Candidates
from illada_core.inference.draws import NEVER
from illada_core.inference.rules import Rules
from illada_core.inference.settings import Settings

DREAM_END = 1e-3  # where Dream's time ends


def step_quotas(masks: int, steps: int | None, schedule: str = "even") -> list[int]:
    """Spread `masks` over `steps` as evenly as can be, early steps taking the remainder.

    None is one token a step; no step is left without a token.
    """
    if schedule == "dream":
        return dream_quotas(masks, masks if steps is None else steps)
    steps = masks if steps is None else min(steps, masks)
    if steps == 0:
        return []
    least, more = divmod(masks, steps)
    return [least + 1] * more + [least] * (steps - more)


def dream_quotas(masks: int, steps: int) -> list[int]:
    """Spread `masks` as Dream's sampler does: of what is open, the share 1 - s / t in whole tokens.

    Times go from 1 to DREAM_END on a float32 line, whose rounding decides; the last step takes all
    that is left. Steps at which nothing is written, mostly the first, are left out.
    """
    times = torch.linspace(1, DREAM_END, steps + 1).numpy()
    quotas: list[int] = []
    for step in range(steps - 1):
        share = np.float32(1) - times[step + 1] / times[step]
        quotas.append(int(np.float32(masks - sum(quotas)) * share))
    left = masks - sum(quotas)
    return [quota for quota in (*quotas, left) if quota]


def taken(candidates: Candidates, open_NB: Tensor, quota_N: Tensor, settings: Settings) -> Tensor:
    """Return which candidates [N, B] are committed, of those that are open, where they lie.

    Each rule commits at least the step's quota, so no step is empty and a block ends in time.
    Threshold: all with p >= threshold (Fast-dLLM). Factor: the most probable n with
    (n + 1) (1 - p_n) < factor (Fast-dLLM). Entropy bound: the longest prefix in order of
    confidence whose entropies, without the largest, sum to at most the bound (EB-Sampler).
    """
    order_NB = falling(candidates.confidence, open_NB)
    rank_B = torch.arange(open_NB.shape[1], device=open_NB.device)
    sure_NB = placed(rank_B < quota_N[:, None], order_NB)
    if settings.threshold is not None:
        sure_NB |= candidates.probability >= settings.threshold
    elif settings.factor is not None:
        by_probability_NB = falling(candidates.probability, open_NB)
        falling_NB = candidates.probability.gather(1, by_probability_NB)
        passes_NB = (rank_B + 2) * (1 - falling_NB) < settings.factor
        passes_NB &= open_NB.gather(1, by_probability_NB)
        count_N1 = (passes_NB * (rank_B + 1)).amax(-1, keepdim=True)
        sure_NB |= placed(rank_B < count_N1, by_probability_NB)
    elif settings.entropy_bound is not None:
        entropy_NB = candidates.entropy.gather(1, order_NB)
        joint_NB = entropy_NB.cumsum(-1) - entropy_NB.cummax(-1).values
        sure_NB |= placed(joint_NB <= settings.entropy_bound, order_NB)
    return sure_NB & open_NB


def falling(values_NB: Tensor, open_NB: Tensor) -> Tensor:
    """Return the places of each row's values, the largest first, those that are not open last."""
    finite_NB = values_NB.clamp(min=torch.finfo(values_NB.dtype).min)
    return finite_NB.masked_fill(~open_NB, NEVER).neg().argsort(dim=-1, stable=True)


def placed(chosen_NB: Tensor, order_NB: Tensor) -> Tensor:
    """Return at its own place what is said of each value in an order."""
    return torch.zeros_like(order_NB, dtype=torch.bool).scatter(1, order_NB, chosen_NB)


def thinking_boost(written: np.ndarray, budget: int, rules: Rules) -> tuple[int, float] | None:
    """Return (token, logit to add) for the first open position, or None once thinking ended.

    `written` is what stands of the new text, open positions and all. The addition grows as (share
    of the budget used) ** power; the token is the next of the ids that end thinking after what of
    them already stands right before the open position (paper, Appendix A).
    """
    end_ids, settings = rules.end_thinking_ids, rules.settings
    size = len(end_ids)
    if len(written) >= size and (sliding_window_view(written, size) == end_ids).all(1).any():
        return None
    first_open = int(np.argmax(written == rules.ids.mask_id))
    share = min(1.0, (first_open + 1) / budget)
    matched = next(
        length
        for length in range(min(size - 1, first_open), -1, -1)
        if tuple(written[first_open - length : first_open]) == end_ids[:length]
    )
    return end_ids[matched], settings.end_thinking_boost * share**settings.end_thinking_power
