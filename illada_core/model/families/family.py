"""What a family of models is: its config.json both ways, its names, its fresh weights. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from illada_core.model.config import ModelConfig

Facts = dict[str, Any]  # the contents of a config.json
# The standard deviation of a fresh matrix, from its name and the channels that it takes in.
InitialStd = Callable[[ModelConfig, str, int], float]

BRANCH_ENDS = ("attention.output.weight", "ffn.down.weight")


@dataclass(frozen=True)
class Reading:
    """How a checkpoint is to be read; None is what a file leaves open.

    `attention` is what a token meets, `shift` whether a row of logits speaks of the token after it
    or of its own. The two are independent, and neither follows from the shape of a model.
    """

    attention: str | None = None
    shift: bool | None = None

    @property
    def is_known(self) -> bool:
        """Whether nothing is left open."""
        return self.attention is not None and self.shift is not None

    def over(self, other: "Reading") -> "Reading":
        """Return this reading, what it leaves open taken from another."""
        return Reading(
            other.attention if self.attention is None else self.attention,
            other.shift if self.shift is None else self.shift,
        )

    def includes(self, other: "Reading") -> bool:
        """Tell whether another reading differs only in what this one leaves open."""
        return other.over(self) == other == self.over(other)


FULL_OWN = Reading("full", shift=False)
FULL_NEXT = Reading("full", shift=True)
CAUSAL_NEXT = Reading("causal", shift=True)


def plain_std(config: ModelConfig, name: str, fan_in: int) -> float:
    """Return one standard deviation for all matrices, as transformers has it."""
    return config.initial_std


def small_std(config: ModelConfig, name: str, fan_in: int) -> float:
    """Return iLLaDA's: smaller where a branch returns to the residual stream."""
    if name == "embedding.weight":
        return sqrt(1 / (2 * config.width))
    return config.initial_std / (sqrt(2 * config.layers) if name.endswith(BRANCH_ENDS) else 1)


def mitchell_std(config: ModelConfig, name: str, fan_in: int) -> float:
    """Return LLaDA's: narrower the deeper the layer."""
    if not name.endswith(BRANCH_ENDS):
        return 1 / sqrt(fan_in)
    return 1 / sqrt(fan_in * 2 * (int(name.split(".")[1]) + 1))


@dataclass(frozen=True, kw_only=True)
class Family:
    """A row of the table of families.

    `readings` say what each model type stands for; the first is how `write` describes a model.
    `doubts` are what a file may hold that speaks against it, sentence by sentence. `computed` are
    values of fields that the family's code takes and others do not (see `features`). The mask id is
    the released one's, for files that do not name theirs.
    """

    readings: Mapping[str, Reading]
    names: Mapping[str, str]
    read: Callable[[Facts], ModelConfig]
    write: Callable[[ModelConfig], Facts]
    doubts: Callable[[Facts], list[str]] = lambda facts: []
    computed: Mapping[str, tuple[Any, ...]] | None = None
    initial_std: InitialStd = plain_std
    truncated_stds: float | None = None
    pad_row_is_zero: bool = True
    stores_tied_head: bool = False
    mask_id: int | None = None
