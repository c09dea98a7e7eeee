"""A token drawn for each row: Gumbel-max, from the nucleus or from all, with noise that is keyed.

Temperature is Gumbel-max in float64 and in log form: the argmax of l + T g, with g a pure function
of (seed, prompt, step, position, token), so neither batch nor device order can change a sample.
Shapes: M open positions, V vocabulary, N some likely tokens, P pairs of both that can win.
"""

import torch
from torch import Tensor

from illada_core.inference.settings import Settings
from illada_core.noise import STREAM_SAMPLER, philox, unit_interval

NUCLEUS_SIZES = (256, 16_384)
FEW = 256  # the likeliest tokens, whose noise comes first
SPARSE = 1 / 6  # of the tokens: with more of them to look at, noise for all costs less
MOST_NOISE = 22.9  # above the largest draw, -ln(-ln(1 - 2**-33))
NEVER = float("-inf")


def draw(logits_MV: Tensor, noise_keys: Tensor, settings: Settings) -> Tensor:
    """Return a token for each row, drawn from the nucleus of softmax(l / T) by Gumbel-max."""
    if settings.top_p == 1 and settings.top_k is None:
        return draw_from_all(logits_MV, noise_keys, settings.temperature)
    token_MN, outside_MN = nucleus(logits_MV / settings.temperature, settings)
    score_MN = logits_MV.gather(1, token_MN).double().masked_fill_(outside_MN, NEVER)
    noise_MN = gumbel_noise_at(noise_keys, token_MN, logits_MV.shape[1])
    best_M1 = score_MN.add_(noise_MN, alpha=settings.temperature).argmax(-1, keepdim=True)
    return token_MN.gather(1, best_M1)[:, 0]


def draw_from_all(logits_MV: Tensor, noise_keys: Tensor, temperature: float) -> Tensor:
    """Return argmax l + T g of each row; noise is drawn only where a token can win, if few can.

    Those are the tokens that the largest noise would lift to the best score of a few likely ones:
    a bound that is exact, and leaves out the more the lower the temperature is.
    """
    rows, vocab_size = logits_MV.shape
    few_MN, token_MN = logits_MV.topk(min(FEW, vocab_size), dim=-1)
    noise_MN = gumbel_noise_at(noise_keys, token_MN, vocab_size)
    best_M = few_MN.double().add_(noise_MN, alpha=temperature).amax(-1)
    bound_M = (best_M - temperature * MOST_NOISE).float()
    bound_M = bound_M.nextafter(torch.full_like(bound_M, NEVER))  # rounding may not raise it
    may_win_MV = logits_MV >= bound_M[:, None]
    if may_win_MV.count_nonzero() > SPARSE * rows * vocab_size:
        noise_MV = gumbel_noise(noise_keys, vocab_size)
        return logits_MV.double().add_(noise_MV, alpha=temperature).argmax(-1)
    row_P, token_P = may_win_MV.nonzero(as_tuple=True)
    noise_P = gumbel_noise_at(noise_keys[:, row_P], token_P[:, None], vocab_size)[:, 0]
    score_P = logits_MV[row_P, token_P].double().add_(noise_P, alpha=temperature)
    best_M = best_M.scatter_reduce(0, row_P, score_P, "amax")
    wins_P = score_P == best_M[row_P]
    winner_M = torch.zeros_like(best_M, dtype=torch.int64)  # logits that are not numbers have none
    return winner_M.scatter_reduce(0, row_P[wins_P], token_P[wins_P], "amin", include_self=False)


def tempered(logits_MV: Tensor, settings: Settings) -> Tensor:
    """Return logits of the distribution that a token is drawn from: over T, its nucleus alone."""
    logits_MV = logits_MV / (settings.temperature or 1.0)
    if settings.top_p == 1 and settings.top_k is None:
        return logits_MV
    token_MN, outside_MN = nucleus(logits_MV, settings)
    kept_MN = logits_MV.gather(1, token_MN).masked_fill_(outside_MN, NEVER)
    return torch.full_like(logits_MV, NEVER).scatter_(1, token_MN, kept_MN)


def nucleus(logits_MV: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the likeliest tokens of each row and which of them lie outside its nucleus.

    That is the smallest set with at least top_p of the probability, and of it the top_k likeliest.
    A few tokens are tried before all are sorted, which is slow.
    """
    p_MV, top_p = logits_MV.softmax(-1), settings.top_p
    sizes = NUCLEUS_SIZES if settings.top_k is None else (settings.top_k,)
    for size in sizes:
        p_MN, token_MN = p_MV.topk(min(size, p_MV.shape[1]), dim=-1)
        if settings.top_k or bool((p_MN.sum(-1) >= top_p).all()):
            break
    else:
        p_MN, token_MN = p_MV.sort(dim=-1, descending=True)
    return token_MN, p_MN.cumsum(-1) - p_MN >= top_p


def gumbel_noise(noise_keys: Tensor, vocab_size: int) -> Tensor:
    """Return Gumbel noise [M, V] in float64 for rows keyed by (position, prompt, step, seed).

    `noise_keys` are five words a row [5, M]: the seed has two. Each counter gives four 32-bit
    words, for four tokens a quarter of the vocabulary apart; the largest draw is 22.9, so a token
    is cut off at odds below 2**-32.
    """
    counter_Q = torch.arange(quarter(vocab_size), device=noise_keys.device)
    words = noise_words(noise_keys, counter_Q)
    return gumbel(torch.cat(words, dim=1)[:, :vocab_size])


def gumbel_noise_at(noise_keys: Tensor, token_MN: Tensor, vocab_size: int) -> Tensor:
    """Return the same noise for some tokens of each row only."""
    words = noise_words(noise_keys, token_MN % quarter(vocab_size))
    which_1MN = (token_MN // quarter(vocab_size))[None]
    return gumbel(torch.stack(words).gather(0, which_1MN)[0])


def quarter(vocab_size: int) -> int:
    return -(-vocab_size // 4)


def noise_words(noise_keys: Tensor, counter: Tensor) -> tuple[Tensor, ...]:
    """Return four random words for each row and counter."""
    position_M1, key_M1, step_M1, low_M1, high_M1 = noise_keys[:, :, None]
    stream_M1 = step_M1 << 8 | STREAM_SAMPLER
    return philox((counter, position_M1, key_M1, stream_M1), (low_M1, high_M1))


def gumbel(words: Tensor) -> Tensor:
    """Map random words to Gumbel noise, -ln(-ln u), in float64."""
    return unit_interval(words.double()).log_().neg_().log_().neg_()
