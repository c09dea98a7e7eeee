"""One step or several of many prompts, decided on the device: the host looks when all are done.

From one step to the next a call of the model differs by the tokens written in between, so it is
made again with these put in, and nothing waits for the host (but draws at a temperature, which ask
how many tokens can win). What the host alone knows, where a text ends and when another block
begins, it applies afterwards: what steps decided beyond that is forgotten.

Shapes: T packed ids, M open positions of all prompts or of a group, W views of a prompt, N prompts
of a group, B open positions of one, V vocabulary, K steps.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from illada_core.errors import DataError
from illada_core.inference.candidates import Choosing, OpenRows, guide, seed_words
from illada_core.inference.canvas import Canvas
from illada_core.inference.commits import taken, thinking_boost
from illada_core.model.transfer import sent


@dataclass(frozen=True, eq=False)
class Call:
    """A call of the model that can be made again with other ids; `ids_T` and `rows_M` are a host's.

    `logits` takes ids and returns logits_MV of the rows, which are the open positions of all
    prompts, then once more those of prompts that guidance also sees without their condition.
    """

    logits: Callable[[Tensor], Tensor]
    ids_T: Tensor
    rows_M: Tensor


class Decision(NamedTuple):
    """What one step decided for the positions of a prompt that were open before the first step."""

    token_B: np.ndarray
    confidence_B: np.ndarray
    taken_B: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Which of them are written, the surest first."""
        written = np.flatnonzero(self.taken_B)
        return written[np.argsort(-self.confidence_B[written], kind="stable")]


class Group:
    """Canvases whose tokens are chosen by the same settings: rows of a call, beside each other.

    `start` is the first of these rows, `blind` the first of those without condition. All that the
    steps need is sent to the device when it is made.
    """

    def __init__(
        self,
        canvases: Sequence[Canvas],
        start: int,
        blind: int,
        call: Call,
        steps: int,
        device: torch.device,
    ) -> None:
        self.rules = canvases[0].rules
        self.counts = [len(canvas.open_B) for canvas in canvases]
        firsts = (start, blind) if self.rules.settings.cfg else (start,)
        self.views = [slice(first, first + sum(self.counts)) for first in firsts]
        self.choosing = Choosing(open_rows(canvases), self.rules, device, steps)
        self.rows_WM = sent(torch.stack([call.rows_M[rows] for rows in self.views]), device)
        self.place_NB = sent(torch.from_numpy(places(self.counts)), device)
        quotas = [(canvas.quotas + [0] * steps)[:steps] for canvas in canvases]
        self.quota_KN = sent(torch.tensor(quotas).T.contiguous(), device)
        # One more than there are, never open: what fills up the places of shorter prompts.
        is_open = torch.arange(sum(self.counts) + 1) < sum(self.counts)
        self.open_M1 = sent(is_open, device)

    def decide(self, logits_MV: Tensor, step: int) -> Tensor:
        """Return what a step decides: token, probability, confidence and whether taken [4, M]."""
        settings = self.rules.settings
        own_MV, *blind_MV = (logits_MV[rows] for rows in self.views)
        if blind_MV:
            own_MV = guide(own_MV, blind_MV[0], settings.cfg)
        chosen = self.choosing.choose(own_MV, step)
        open_NB = self.open_M1[self.place_NB]
        taken_NB = taken(chosen.laid_out(self.place_NB), open_NB, self.quota_KN[step], settings)
        taken_M1 = torch.zeros_like(self.open_M1).index_put_((self.place_NB,), taken_NB)
        self.open_M1 = self.open_M1 & ~taken_M1
        return torch.cat((chosen.numbers[:3], taken_M1[None, :-1].double()))

    def write(self, decided_4M: Tensor, ids_T: Tensor) -> None:
        """Put the tokens that were taken among the ids, wherever their prompts are seen."""
        token_M, _, _, taken_M = decided_4M
        ids_T[self.rows_WM] = torch.where(taken_M > 0, token_M.long(), ids_T[self.rows_WM])


@torch.inference_mode()
def decide(call: Call, together: Sequence[Sequence[Canvas]], steps: int) -> list[list[Decision]]:
    """Return for each canvas what `steps` steps decide; canvases chosen for alike come in one list.

    One transfer to the host. Raises DataError for logits that are not numbers.
    """
    logits_MV = call.logits(call.ids_T)
    device = logits_MV.device
    groups, start = [], 0
    blind = sum(len(canvas.open_B) for canvases in together for canvas in canvases)
    for canvases in together:
        group = Group(canvases, start, blind, call, steps, device)
        start += sum(group.counts)
        blind += sum(group.counts) * (len(group.views) - 1)
        groups.append(group)
    ids_T, decided = sent(call.ids_T.clone(), device), []
    parts: list[Tensor] = []
    for step in range(steps):
        if step:
            for group, part_4M in zip(groups, parts, strict=True):
                group.write(part_4M, ids_T)
            logits_MV = call.logits(ids_T)
        parts = [group.decide(logits_MV, step) for group in groups]
        decided.append(torch.cat(parts, dim=1))
    decided_K4M = torch.stack(decided).cpu().numpy()
    if np.isnan(decided_K4M[:, 1]).any():
        raise DataError(
            "the model's logits are not numbers", "float16 may overflow: try bfloat16 or float32"
        )
    counts = [count for group in groups for count in group.counts]
    dealt = np.split(decided_K4M, np.cumsum(counts)[:-1], axis=2)
    return [[decision_of(step_4B) for step_4B in own_K4B] for own_K4B in dealt]


def decision_of(step_4B: np.ndarray) -> Decision:
    """Return what a step decided for one prompt, from the rows of `Group.decide`."""
    token_B, _, confidence_B, taken_B = step_4B
    return Decision(token_B.astype(np.int64), confidence_B, taken_B > 0)


def places(counts: Sequence[int]) -> np.ndarray:
    """Return where the rows of each prompt lie [N, B], one beyond the last where it has none."""
    count_N1, rank_B = np.array(counts)[:, None], np.arange(max(counts))
    first_N1 = np.cumsum(count_N1, axis=0) - count_N1
    return np.where(rank_B < count_N1, first_N1 + rank_B, sum(counts))


def open_rows(canvases: Collection[Canvas]) -> OpenRows:
    """Describe the open positions of some canvases, row by row."""
    counts = [len(canvas.open_B) for canvas in canvases]
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    boosts = zip(firsts, map(boost, canvases), strict=True)
    seeds = [seed_words(canvas.rules.settings.seed) for canvas in canvases]
    return OpenRows(
        seed_M2=np.repeat(np.array(seeds), counts, axis=0),
        key_M=np.repeat([canvas.task.noise_key for canvas in canvases], counts),
        step_M=np.repeat([canvas.step for canvas in canvases], counts),
        position_M=np.concatenate([canvas.open_B for canvas in canvases]),
        may_end_M=np.concatenate([canvas.may_end_B() for canvas in canvases]),
        boosts=tuple((row, *found) for row, found in boosts if found),
    )


def boost(canvas: Canvas) -> tuple[int, float] | None:
    """Return the end-of-thinking boost (token, addition) for the first open position."""
    if not is_boosted(canvas):
        return None
    return thinking_boost(canvas.filled()[0], canvas.task.gaps[0].length, canvas.rules)


def is_boosted(canvas: Canvas) -> bool:
    """Whether what ends thinking is made likelier as the text grows."""
    return canvas.rules.settings.end_thinking_boost > 0 and canvas.task.is_continuation


def foreseen(canvas: Canvas) -> int:
    """Return how many steps a block will likely need yet: all are wanted, so none is for nothing.

    One where the next depends on what the host makes of what is written: the end of thinking.
    """
    if is_boosted(canvas):
        return 1
    if canvas.rules.settings.commit_rule is None or not canvas.step:
        return len(canvas.quotas)
    a_step = canvas.committed / canvas.step
    return max(1, min(len(canvas.quotas), int(len(canvas.open_B) / a_step)))
