"""Keys and values that outlive a forward pass, so that few rows can meet many.

Which rows are computed, where they stand and what they meet is told from outside: nothing here
knows of prompts, blocks or masks. A row that is not computed again keeps the keys and values of the
tokens that stood around it then, so in a bidirectional model only a pass over all rows is exact.

Shapes: T computed rows, D texts, L layers, S slots, G key/value heads, K head size.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from illada_core.model.attention import Places
from illada_core.model.config import ModelConfig
from illada_core.model.transfer import sent


class KeyValues:
    """Rotated keys, and values, of every layer at numbered slots."""

    def __init__(
        self, config: ModelConfig, slots: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.layers, slots, config.kv_heads, config.head_size)
        self.k_LSGK = torch.empty(shape, device=device, dtype=dtype)
        self.v_LSGK = torch.empty(shape, device=device, dtype=dtype)

    @property
    def slots(self) -> int:
        """How many there are."""
        return self.k_LSGK.shape[1]

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return self.k_LSGK.nbytes + self.v_LSGK.nbytes

    def grown(self, slots: int) -> "KeyValues":
        """Return a memory of more slots, with what this one holds in the first of them."""
        grown = copy(self)
        more = slots - self.slots
        grown.k_LSGK, grown.v_LSGK = (
            torch.cat((kept, kept.new_empty(len(kept), more, *kept.shape[2:])), dim=1)
            for kept in (self.k_LSGK, self.v_LSGK)
        )
        return grown

    def at(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return k_SGK and v_SGK of one layer: what is written there is kept."""
        return self.k_LSGK[layer], self.v_LSGK[layer]


@dataclass(frozen=True, eq=False)
class Window:
    """The rows of some texts that a forward computes: where they stand, and what they meet."""

    positions_T: Tensor  # int64
    slots_T: Tensor  # int64
    places: Places

    @staticmethod
    def of(
        positions: Sequence[Sequence[int]],
        spans: Sequence[tuple[int, int]],
    ) -> "Window":
        """Describe windows: of each text, the positions to compute, and the slots of all it has.

        It is on the host. A text's position p lies in slot spans[d][0] + p, and its rows meet every
        slot of its span.
        """
        for own, (start, end) in zip(positions, spans, strict=True):
            assert set(own) <= set(range(end - start)), "a position outside its text"
        counts = [len(own) for own in positions]
        firsts_D = torch.tensor([start for start, _ in spans])
        lengths = [end - start for start, end in spans]
        positions_T = torch.cat([torch.as_tensor(own, dtype=torch.int64) for own in positions])
        slots_T = positions_T + firsts_D.repeat_interleave(torch.tensor(counts))
        q_offsets_D1, k_offsets_D1 = (
            torch.tensor((0, *accumulate(sizes)), dtype=torch.int32) for sizes in (counts, lengths)
        )
        places = Places(
            q_offsets_D1=q_offsets_D1,
            q_longest=max(counts),
            spans=tuple(spans),
            k_offsets_D1=k_offsets_D1,
            k_longest=max(lengths),
            slots_S=torch.cat([torch.arange(*span) for span in spans]),
        )
        return Window(positions_T, slots_T, places)

    def to(self, device: torch.device | str) -> "Window":
        """Return it on a device."""
        places = self.places.to(device)
        return Window(sent(self.positions_T, device), sent(self.slots_T, device), places)


@dataclass(frozen=True, eq=False)
class LayerWindow:
    """A window, and the keys and values of one layer that it writes and meets."""

    window: Window
    k_SGK: Tensor
    v_SGK: Tensor

    @property
    def places(self) -> Places:
        """What the rows of the window meet."""
        return self.window.places

    def write(self, k_TGK: Tensor, v_TGK: Tensor) -> tuple[Tensor, Tensor]:
        """Put the rows' keys and values in their slots; return those of all slots."""
        self.k_SGK.index_copy_(0, self.window.slots_T, k_TGK)
        self.v_SGK.index_copy_(0, self.window.slots_T, v_TGK)
        return self.k_SGK, self.v_SGK
