"""What each open position would become, and how sure the model is: the only work over [M, V].

Temperature is Gumbel-max in float64 and in log form: the argmax of l + T g, with g a pure function
of (seed, prompt, step, position, token), so neither batch nor device order can change a sample.
Shapes: M open positions (a chunk of them inside the loop), V vocabulary, N some likely tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from illada_core.errors import DataError
from illada_core.inference.rules import NO_MASK, Rules
from illada_core.inference.settings import Settings
from illada_core.model.transfer import sent
from illada_core.noise import STREAM_REMASKING, STREAM_SAMPLER, philox, unit_interval

# Elements of [M, V] worked on at once: a few passes should stay in cache on a CPU, and on a GPU
# the float64 intermediates must stay small beside the weights.
CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 24}
NUCLEUS_SIZES = (256, 16_384)
FEW = 256  # the likeliest tokens, whose noise comes first
SPARSE = 1 / 6  # of the tokens: with more of them to look at, noise for all costs less
MOST_NOISE = 22.9  # above the largest draw, -ln(-ln(1 - 2**-33))
NEVER = float("-inf")


@dataclass(frozen=True)
class OpenRows:
    """The open positions of one forward, on the host: whose they are and what holds for them.

    `seed_M2` are the two words of each row's seed, `key_M` names its prompt (32 bits), `may_end_M`
    tells where a token may end the text, `boosts` are (row, token, addition to its logit).
    """

    seed_M2: np.ndarray
    key_M: np.ndarray
    step_M: np.ndarray
    position_M: np.ndarray
    may_end_M: np.ndarray
    boosts: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True)
class Candidates:
    """For each open position, on the host: a token, its probability, and what orders commits.

    The probability is free of noise and temperature. `entropy_M` is zero where no rule asks.
    """

    token_M: np.ndarray
    probability_M: np.ndarray
    confidence_M: np.ndarray
    entropy_M: np.ndarray

    def part(self, start: int, stop: int) -> "Candidates":
        """Return the candidates of some consecutive rows."""
        return Candidates(
            self.token_M[start:stop],
            self.probability_M[start:stop],
            self.confidence_M[start:stop],
            self.entropy_M[start:stop],
        )


def choose(logits_MV: Tensor, rows: OpenRows, rules: Rules) -> Candidates:
    """Choose a token for each row; the mask is never one. One transfer to the host.

    `logits_MV` is guided already and may be overwritten. Its dtype may be low: all arithmetic is
    in float32, the choice under a temperature in float64. `rules` are those of every row, but for
    the seed. Raises DataError for logits that are not numbers.
    """
    settings = rules.settings
    for row, token, addition in rows.boosts:
        logits_MV[row, token] += addition
    device = logits_MV.device
    closed_M1 = None
    if settings.eos_guard == "logits" or not rows.may_end_M.all():
        closed_M1 = sent(torch.from_numpy(~rows.may_end_M), device)[:, None]
    noise_keys = None
    if settings.temperature > 0:
        stacked = np.stack((rows.position_M, rows.key_M, rows.step_M, *rows.seed_M2.T))
        noise_keys = sent(torch.from_numpy(stacked), device)
    pieces = []
    elements = CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cuda"])
    for chunk in row_chunks(len(logits_MV), logits_MV.shape[1], elements):
        part_MV = logits_MV[chunk].float()
        if closed_M1 is not None:
            bar(part_MV, closed_M1[chunk], rules)
        keys = None if noise_keys is None else noise_keys[:, chunk]
        pieces.append(choose_rows(part_MV, keys, rules))
    token_M, probability_M, confidence_M, entropy_M = torch.cat(pieces, dim=1).cpu().numpy()
    if np.isnan(probability_M).any():
        raise DataError(
            "the model's logits are not numbers", "float16 may overflow: try bfloat16 or float32"
        )
    if settings.remasking == "random":
        confidence_M = random_confidence(rows)
    elif settings.alg_temp:
        noise_M = -np.log(-np.log(random_confidence(rows)))
        confidence_M = confidence_M / settings.alg_temp + noise_M
    return Candidates(token_M.astype(np.int64), probability_M, confidence_M, entropy_M)


def row_chunks(rows: int, columns: int, elements: int) -> Iterator[slice]:
    """Cut rows into slices of about that many elements, at least a row each."""
    step = max(1, elements // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def bar(logits_MV: Tensor, closed_M1: Tensor, rules: Rules) -> None:
    """Take the end ids from the rows that may not end, and under the guard `logits` from all."""
    ends = list(rules.end_ids)
    logits_MV[:, ends] = logits_MV[:, ends].masked_fill(closed_M1, NEVER)
    if rules.settings.eos_guard == "logits":
        logits_MV[:, list(rules.ids.eos_ids)] = NEVER


def choose_rows(logits_MV: Tensor, noise_keys: Tensor | None, rules: Rules) -> Tensor:
    """Return token, probability, confidence and entropy of each row as four rows of float64.

    As in the reference, the mask's logit counts in the probabilities though it cannot be chosen.
    """
    settings, mask_id = rules.settings, rules.ids.mask_id
    is_tempered = settings.confidence_from == "tempered"
    masks = slice(mask_id, mask_id + 1) if mask_id != NO_MASK else slice(0)
    mask_MN = logits_MV[:, masks].clone()
    logits_MV[:, masks] = NEVER
    known_MV = logits_MV[:, : rules.ids.vocab_size]
    token_M = known_MV.argmax(-1) if noise_keys is None else draw(known_MV, noise_keys, settings)
    guarded_M = torch.zeros_like(token_M, dtype=torch.bool)
    if settings.eos_guard == "confidence":
        guarded_ids = torch.tensor(rules.ids.eos_ids, device=token_M.device)
        guarded_M = torch.isin(token_M, guarded_ids)
        logits_MV[:, guarded_ids] = NEVER
    logits_MV[:, masks] = mask_MN
    p_MV = (tempered(logits_MV, settings) if is_tempered else logits_MV).softmax(-1)
    p_M = p_MV.gather(1, token_M[:, None])[:, 0]
    entropy_M = torch.zeros_like(p_M)
    if settings.remasking == "entropy" or settings.entropy_bound is not None:
        entropy_M = torch.special.entr(p_MV).sum(-1)
    confidence_M = p_M
    if settings.remasking == "entropy":
        confidence_M = -entropy_M
    elif settings.remasking == "margin":
        p_MV[:, masks] = 0
        best_M2 = p_MV.topk(2, dim=-1).values
        confidence_M = best_M2[:, 0] - best_M2[:, 1]
    confidence_M = confidence_M.masked_fill(guarded_M, NEVER)
    return torch.stack([x.double() for x in (token_M, p_M, confidence_M, entropy_M)])


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


def seed_words(seed: int) -> tuple[int, int]:
    """Return a seed of 64 bits as a key of the generator."""
    return seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF


def random_confidence(rows: OpenRows) -> np.ndarray:
    """Return uniform draws in place of a confidence, one for each row."""
    low_M, high_M = rows.seed_M2.T
    words = philox(
        (rows.position_M, rows.key_M, rows.step_M, np.int64(STREAM_REMASKING)), (low_M, high_M)
    )
    return unit_interval(words[0])


def guide(conditional_MV: Tensor, unconditional_MV: Tensor, cfg: float) -> Tensor:
    """Move the logits away from the unconditional ones: l_u + (cfg + 1) (l_c - l_u)."""
    return unconditional_MV + (cfg + 1) * (conditional_MV - unconditional_MV)
