"""What holds for one task: its settings, and the ids that a checkpoint gives them.

Ids come from the checkpoint's files; everything else is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from illada_core.errors import UsageError
from illada_core.inference.settings import DEFAULTS, Settings

BLOCK_LENGTH = 32  # of the released models
NO_MASK = -1  # stands where a model without a mask token has yet to write

# Given the ids written so far in a gap, how many of them stand before a stop string, if any.
FindStop = Callable[[list[int]], int | None]


@dataclass(frozen=True)
class ModelIds:
    """The ids that a sampler must know of a checkpoint; `eos_ids` end a text.

    `mask_id` is NO_MASK for a model that writes from left to right. Ids from `vocab_size` on are
    never chosen: a model's table may be longer than its vocabulary.
    """

    mask_id: int
    vocab_size: int | None = None
    eos_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Settings in the ids of a checkpoint. Raises UsageError when they contradict each other.

    `find_stop` finds the stop strings of the settings, `end_thinking_ids` spell what ends thinking.
    """

    ids: ModelIds
    settings: Settings = DEFAULTS
    find_stop: FindStop | None = None
    end_thinking_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        settings = self.settings
        if self.ids.mask_id in self.end_ids:
            raise UsageError(f"mask id {self.ids.mask_id} cannot also be an id that ends a text")
        if settings.eos_guard != "none" and not self.ids.eos_ids:
            raise UsageError("an eos guard needs an eos id, and this checkpoint names none")
        if settings.end_thinking_boost > 0 and not self.end_thinking_ids:
            raise UsageError("the end-of-thinking boost needs the ids of what ends thinking")

    @property
    def end_ids(self) -> tuple[int, ...]:
        """All ids that end a text."""
        return self.ids.eos_ids + self.settings.stop_ids

    @property
    def block_length(self) -> int:
        """How many positions are filled together."""
        return self.settings.block_length or BLOCK_LENGTH

    @cached_property
    def choice(self) -> Settings:
        """The settings with what does not bear on a choice of tokens set alike.

        Rows whose choices are equal can be chosen together.
        """
        return replace(
            self.settings,
            seed=0,
            max_new_tokens=1,
            stop=(),
            block_length=None,
            refresh_every=None,
            refresh_after=None,
            vicinity=0,
        )
