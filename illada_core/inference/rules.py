"""What a generation is asked to do: ids, block sizes, choice of tokens, order of commits.

Ids come from the checkpoint's files; everything else has the defaults of the reference.
"""

from dataclasses import dataclass
from typing import Literal

from illada_core.errors import UsageError

Remasking = Literal["low-confidence", "random", "margin", "entropy"]
CommitBy = Literal["quota", "threshold", "factor", "entropy-bound"]
EosGuard = Literal["none", "logits", "confidence"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Settings of one sampler. Raises UsageError when they contradict each other.

    `eos_ids` and `stop_ids` end a text; `guarded_ids` are those the eos guard is about.
    `bound` is the number that `commit_by` compares with (tau, f or gamma). Ids from `vocab_size` on
    are never chosen: a model's table may be longer than its vocabulary.
    """

    mask_id: int
    vocab_size: int | None = None
    eos_ids: tuple[int, ...] = ()
    stop_ids: tuple[int, ...] = ()
    block_length: int = 32
    steps_per_block: int | None = None
    remasking: Remasking = "low-confidence"
    commit_by: CommitBy = "quota"
    bound: float = 0.0
    temperature: float = 0.0
    top_p: float = 1.0
    cfg: float = 0.0
    seed: int = 0
    eos_guard: EosGuard = "none"
    guarded_ids: tuple[int, ...] = ()
    thinking_end_ids: tuple[int, ...] = ()
    thinking_boost: float = 0.0
    thinking_power: float = 2.0

    def __post_init__(self) -> None:
        if self.mask_id in self.end_ids:
            raise UsageError(f"mask id {self.mask_id} cannot also be an id that ends a text")
        for name, least in (("block_length", 1), ("temperature", 0), ("cfg", 0), ("bound", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.steps_per_block is not None and self.steps_per_block < 1:
            raise UsageError(f"steps_per_block must be at least 1, not {self.steps_per_block}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.eos_guard != "none" and not self.guarded_ids:
            raise UsageError("an eos guard needs an eos id, and this checkpoint names none")
        if self.thinking_boost > 0 and not self.thinking_end_ids:
            raise UsageError("the end-of-thinking boost needs the ids of what ends thinking")

    @property
    def end_ids(self) -> tuple[int, ...]:
        """All ids that end a text."""
        return self.eos_ids + self.stop_ids
