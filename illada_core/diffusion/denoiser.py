"""The transformer and its loss as one module: what is sharded, compiled or wrapped as a whole.

Nothing reads the head's weight after a forward: a sharded model has it only during one.

Shapes: T packed tokens, M hidden tokens, C channels, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from illada_core.diffusion.corruption import Corrupted
from illada_core.diffusion.loss import masked_cross_entropy, token_cross_entropy
from illada_core.model.attention import Segments
from illada_core.model.transformer import Transformer


class Sums(NamedTuple):
    """What a forward says of the hidden tokens: the sum of weight · nll in nats, and nll_M.

    A tuple, because wrappers look for the tensors to hook a backward pass to in tuples only.
    """

    nats: Tensor
    nll_M: Tensor


class Denoiser(nn.Module):
    """Asks a transformer for the hidden tokens of a micro-batch, and says how surprised it is."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, noisy: Corrupted, by_token: bool = False) -> Sums:
        """Return the sums; `nll_M` is detached, unless it is asked for `by_token`.

        By token costs a fourth product with the head; the sum alone is what training takes.
        """
        segments = Segments.of(noisy.segment_ends, noisy.noisy_T.device)
        if noisy.seen_LL is not None:
            segments = replace(segments, seen_LL=noisy.seen_LL)
        rows_M = self.transformer.rows_about(noisy.hidden_M, segments)
        hidden_MC = self.transformer(noisy.noisy_T, segments, rows_M)
        head_VC = self.transformer.head_weight_VC
        if not by_token:
            return Sums(*masked_cross_entropy(hidden_MC, head_VC, noisy.targets_M, noisy.weight_M))
        nll_M = token_cross_entropy(hidden_MC, head_VC, noisy.targets_M)
        return Sums((nll_M * noisy.weight_M).sum(), nll_M)

    def logits_at(self, ids_T: Tensor, segment_ends: Sequence[int], rows_M: Tensor) -> Tensor:
        """Return logits_MV as the transformer does; a sharded one must be asked through here."""
        return self.transformer.logits_at(ids_T, segment_ends, rows_M)
