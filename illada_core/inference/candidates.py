"""What each open position would become, and how sure the model is: the only work over [M, V].

Shapes: M open positions of all prompts (a chunk of them inside the loop), V vocabulary, E ends,
N prompts, B open positions of one, K steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from illada_core.inference.draws import NEVER, draw, tempered
from illada_core.inference.rules import NO_MASK, Rules
from illada_core.model.transfer import sent
from illada_core.noise import STREAM_REMASKING, philox, unit_interval

# Elements of [M, V] worked on at once: a few passes should stay in cache on a CPU, and on a GPU
# the float64 intermediates must stay small beside the weights.
CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 24}


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


@dataclass(frozen=True, eq=False)
class Candidates:
    """For each open position a token, its probability, and what orders commits.

    `numbers` are four rows of float64 on the device of the logits: tokens, probabilities,
    confidences, entropies [4, M], or laid out by prompt [4, N, B]. The probability is free of noise
    and temperature; the entropy is zero where no rule asks.
    """

    numbers: Tensor

    @property
    def token(self) -> Tensor:
        """The tokens, int64."""
        return self.numbers[0].long()

    @property
    def probability(self) -> Tensor:
        """How probable they are."""
        return self.numbers[1]

    @property
    def confidence(self) -> Tensor:
        """What orders commits: the largest first."""
        return self.numbers[2]

    @property
    def entropy(self) -> Tensor:
        """How undecided the model is between all tokens."""
        return self.numbers[3]

    def laid_out(self, place_NB: Tensor) -> "Candidates":
        """Return them where each prompt has its own; a place beyond the last holds nothing."""
        nothing = self.numbers.new_zeros(len(self.numbers), 1)
        return Candidates(torch.cat((self.numbers, nothing), dim=1)[:, place_NB])


class Choosing:
    """A choice of tokens for some rows, at one step after the other, on the device of their logits.

    All that the steps need of the host is sent when it begins; `rows` are those of the first, and
    `rules` hold for every row, but for the seed.
    """

    def __init__(
        self, rows: OpenRows, rules: Rules, device: torch.device | str, steps: int = 1
    ) -> None:
        self.rows, self.rules, settings = rows, rules, rules.settings
        self.closed_M1 = None
        if settings.eos_guard == "logits" or not rows.may_end_M.all():
            self.closed_M1 = sent(torch.from_numpy(~rows.may_end_M), device)[:, None]
        self.end_E, self.eos_E = (
            sent(torch.tensor(ids, dtype=torch.int64), device)
            for ids in (rules.end_ids, rules.ids.eos_ids)
        )
        self.noise_keys: Tensor | None = None
        self.order_KM: Tensor | None = None
        if settings.temperature > 0:
            stacked = np.stack((rows.position_M, rows.key_M, rows.step_M, *rows.seed_M2.T))
            self.noise_keys = sent(torch.from_numpy(stacked), device)
        if settings.remasking == "random" or settings.alg_temp:
            later = [replace(rows, step_M=rows.step_M + step) for step in range(steps)]
            order_KM = np.stack([random_confidence(each) for each in later])
            if settings.remasking != "random":
                order_KM = -np.log(-np.log(order_KM))
            self.order_KM = sent(torch.from_numpy(order_KM), device)

    def choose(self, logits_MV: Tensor, step: int = 0) -> Candidates:
        """Choose a token for each row; the mask is never one.

        `logits_MV` is guided already and may be overwritten. Its dtype may be low: all arithmetic
        is in float32, the choice under a temperature in float64. Whether any are numbers is for
        whoever fetches the probabilities to see.
        """
        settings = self.rules.settings
        for row, token, addition in self.rows.boosts:
            logits_MV[row, token] += addition
        noise_keys = self.noise_keys
        if noise_keys is not None and step:
            noise_keys = noise_keys.clone()
            noise_keys[2] += step
        pieces = []
        elements = CHUNK_ELEMENTS.get(logits_MV.device.type, CHUNK_ELEMENTS["cuda"])
        for chunk in row_chunks(len(logits_MV), logits_MV.shape[1], elements):
            part_MV = logits_MV[chunk].float()
            if self.closed_M1 is not None:
                self.bar(part_MV, self.closed_M1[chunk])
            keys = None if noise_keys is None else noise_keys[:, chunk]
            pieces.append(self.choose_rows(part_MV, keys))
        numbers_4M = torch.cat(pieces, dim=1)
        if self.order_KM is not None:
            drawn_M = self.order_KM[step]
            is_random = settings.remasking == "random"
            numbers_4M[2] = drawn_M if is_random else numbers_4M[2] / settings.alg_temp + drawn_M
        return Candidates(numbers_4M)

    def bar(self, logits_MV: Tensor, closed_M1: Tensor) -> None:
        """Take the end ids from the rows that may not end, under the guard `logits` from all."""
        logits_MV[:, self.end_E] = logits_MV[:, self.end_E].masked_fill(closed_M1, NEVER)
        if self.rules.settings.eos_guard == "logits":
            logits_MV[:, self.eos_E] = NEVER

    def choose_rows(self, logits_MV: Tensor, noise_keys: Tensor | None) -> Tensor:
        """Return token, probability, confidence and entropy of each row as four rows of float64.

        As in the reference, the mask's logit counts in the probabilities; it is never chosen.
        """
        settings, ids = self.rules.settings, self.rules.ids
        is_tempered = settings.confidence_from == "tempered"
        masks = slice(ids.mask_id, ids.mask_id + 1) if ids.mask_id != NO_MASK else slice(0)
        mask_MN = logits_MV[:, masks].clone()
        logits_MV[:, masks] = NEVER
        known_MV = logits_MV[:, : ids.vocab_size]
        if noise_keys is None:
            token_M = known_MV.argmax(-1)
        else:
            token_M = draw(known_MV, noise_keys, settings)
        guarded_M = torch.zeros_like(token_M, dtype=torch.bool)
        if settings.eos_guard == "confidence":
            guarded_M = torch.isin(token_M, self.eos_E)
            logits_MV[:, self.eos_E] = NEVER
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


def row_chunks(rows: int, columns: int, elements: int) -> Iterator[slice]:
    """Cut rows into slices of about that many elements, at least a row each."""
    step = max(1, elements // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


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
