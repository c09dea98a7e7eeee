"""When candidates become tokens: step quotas, commit rules, the end-of-thinking boost.

Pure functions over one prompt's open positions, in numpy on the host. Ties go to the leftmost
position. Shapes: M open positions.
"""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from illada_core.inference.candidates import Candidates
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


def picks(candidates: Candidates, quota: int, settings: Settings) -> np.ndarray:
    """Return the indices of the candidates to commit, most confident first.

    Each rule commits at least the step's quota, so no step is empty and a block ends in time.
    Threshold: all with p >= threshold (Fast-dLLM). Factor: the most probable n with
    (n + 1) (1 - p_n) < factor (Fast-dLLM). Entropy bound: the longest prefix in order of
    confidence whose entropies, without the largest, sum to at most the bound (EB-Sampler).
    """
    order = np.argsort(-candidates.confidence_M, kind="stable")
    sure = np.zeros(len(order), dtype=bool)
    sure[:quota] = True
    if settings.threshold is not None:
        sure |= candidates.probability_M[order] >= settings.threshold
    elif settings.factor is not None:
        by_probability = np.argsort(-candidates.probability_M, kind="stable")
        count = factor_count(candidates.probability_M[by_probability], settings.factor)
        sure |= np.isin(order, by_probability[:count])
    elif settings.entropy_bound is not None:
        sure[: entropy_count(candidates.entropy_M[order], settings.entropy_bound)] = True
    return order[sure]


def factor_count(falling_M: np.ndarray, factor: float) -> int:
    """Return the largest n with (n + 1) (1 - p_n) < factor, for probabilities that fall."""
    counts = np.arange(1, len(falling_M) + 1)
    passing = np.flatnonzero((counts + 1) * (1 - falling_M) < factor)
    return int(passing[-1]) + 1 if len(passing) else 0


def entropy_count(entropy_M: np.ndarray, gamma: float) -> int:
    """Return the longest prefix whose entropies sum, the largest left out, to at most gamma."""
    joint = np.cumsum(entropy_M) - np.maximum.accumulate(entropy_M)
    return int(np.searchsorted(joint, gamma, side="right"))


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
