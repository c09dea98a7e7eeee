"""The dense transformer of all families: packed ids and segments in, hidden states out.

Pre-norm blocks of RMSNorm, grouped-query attention with rotary positions and SwiGLU; some families
have biases or norms of queries and keys, and attend to what stands before only.
It knows nothing of masks, recipes, ranks or files. Parameters may be float32 masters while the
arithmetic runs in `compute_dtype`: each weight is cast where it is used, and gradients arrive in
the parameters' own dtype.

Shapes: T packed tokens, M asked rows, V vocabulary, C channels, H query heads, G key/value heads,
K head size, R half a head, F feed-forward width.
"""

from collections.abc import Sequence
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from illada_core.model.attention import Places, Segments, packed_attention, query_attention
from illada_core.model.config import ModelConfig, RopeScaling
from illada_core.model.kernels.linear import linear
from illada_core.model.memory import KeyValues, LayerWindow, Window
from illada_core.model.transfer import sent


class Linear(nn.Linear):
    """A projection, computed in the dtype of its input."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def reset_parameters(self) -> None:
        """Leave the weight as it is: weights come from files or from `initial`, not from here."""

    def forward(self, x: Tensor) -> Tensor:
        out = linear(x, self.weight)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class Embedding(nn.Embedding):
    """A row for each id."""

    def reset_parameters(self) -> None:
        """Leave the weight as it is, as `Linear` does."""


class RMSNorm(nn.Module):
    """Scale each row to unit mean square: statistics in float32, weight in the input's dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_TC: Tensor) -> Tensor:
        unit_TC = F.rms_norm(x_TC, self.weight.shape, None, self.eps)
        return unit_TC * self.weight.to(x_TC.dtype)


def rotary_tables(
    positions_T: Tensor,
    head_size: int,
    theta: float,
    dtype: torch.dtype,
    scaling: RopeScaling | None = None,
) -> tuple[Tensor, Tensor]:
    """Return cos_T1K, and sin_T1K with its first half negated, computed in float32."""
    powers_R = torch.arange(0, head_size, 2, device=positions_T.device).float() / head_size
    speeds_R = 1.0 / theta**powers_R
    if scaling is not None:
        speeds_R = scaled_speeds(speeds_R, scaling)
    angles_T1R = positions_T.float()[:, None, None] * speeds_R
    cos_T1R, sin_T1R = angles_T1R.cos().to(dtype), angles_T1R.sin().to(dtype)
    return torch.cat((cos_T1R, cos_T1R), dim=-1), torch.cat((-sin_T1R, sin_T1R), dim=-1)


def scaled_speeds(speeds_R: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow the long waves down, as Llama 3.1 does: radians a token, by their length in tokens."""
    waves_in_length_R = scaling.original_length * speeds_R / (2 * pi)
    kept_R = (waves_in_length_R - scaling.low) / (scaling.high - scaling.low)
    kept_R = kept_R.clamp(0, 1)
    return kept_R * speeds_R + (1 - kept_R) * speeds_R / scaling.factor


def rotate(x_THK: Tensor, cos_T1K: Tensor, sin_T1K: Tensor) -> Tensor:
    """Rotate channel pairs (i, i + R) by their angles, in the dtype of the tables."""
    full_THK = x_THK.to(cos_T1K.dtype)
    left_THR, right_THR = full_THK.chunk(2, dim=-1)
    swapped_THK = torch.cat((right_THR, left_THR), dim=-1)
    return (full_THK * cos_T1K + swapped_THK * sin_T1K).to(x_THK.dtype)


def picked(x_TC: Tensor, rows_M: Tensor | None) -> Tensor:
    """Return the asked rows, or all of them."""
    return x_TC if rows_M is None else x_TC.index_select(0, rows_M)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, backend: str) -> None:
        super().__init__()
        bias = config.qkv_bias
        self.query = Linear(config.width, config.heads * config.head_size, bias)
        self.key = Linear(config.width, config.kv_heads * config.head_size, bias)
        self.value = Linear(config.width, config.kv_heads * config.head_size, bias)
        self.output = Linear(config.heads * config.head_size, config.width)
        self.query_norm = self.key_norm = None
        if config.qk_norm:
            self.query_norm = RMSNorm(config.head_size, config.norm_eps)
            self.key_norm = RMSNorm(config.head_size, config.norm_eps)
        self.head_size = config.head_size
        self.is_causal = config.is_causal
        self.backend = backend
        self.attend = packed_attention  # an attribute, so that it can be kept out of a compilation

    def forward(
        self,
        x_TC: Tensor,
        rotation: tuple[Tensor, Tensor],
        segments: Segments | LayerWindow,
        rows_M: Tensor | None = None,
    ) -> Tensor:
        k_TGK = rotate(self.heads(self.key, self.key_norm, x_TC), *rotation)
        v_TGK = self.heads(self.value, None, x_TC)
        if isinstance(segments, LayerWindow):
            keys = segments.write(k_TGK, v_TGK)
            return self.asked(x_TC, *keys, rotation, segments.places, rows_M)
        # A causal query's place is told by what follows it, and what is seen goes by places: there,
        # all rows are queries.
        is_whole = not self.is_causal and segments.seen_LL is None
        if rows_M is not None and not torch.is_grad_enabled() and is_whole:
            return self.asked(x_TC, k_TGK, v_TGK, rotation, segments.places, rows_M)
        q_THK = rotate(self.heads(self.query, self.query_norm, x_TC), *rotation)
        out_THK = self.attend(q_THK, k_TGK, v_TGK, segments, self.backend, self.is_causal)
        return self.output(picked(out_THK.flatten(-2), rows_M))

    def heads(self, project: nn.Module, norm: RMSNorm | None, x_TC: Tensor) -> Tensor:
        """Return a projection of rows by heads, each normalized where the family does so."""
        x_THK: Tensor = project(x_TC).unflatten(-1, (-1, self.head_size))
        return x_THK if norm is None else norm(x_THK)

    def asked(
        self,
        x_TC: Tensor,
        k_SGK: Tensor,
        v_SGK: Tensor,
        rotation: tuple[Tensor, Tensor],
        places: Places,
        rows_M: Tensor | None,
    ) -> Tensor:
        """Return what the asked rows, or all, make of some keys; they alone are queries."""
        order_M, later_M = None, None
        if self.is_causal:
            rows_M, later_M = None, rows_M
        if rows_M is not None:
            rows_M, order_M = rows_M.sort(stable=True)  # kernels take segment after segment
            order_M, places = order_M.argsort(), places.asked(rows_M)
        q_MHK = self.heads(self.query, self.query_norm, picked(x_TC, rows_M))
        q_MHK = rotate(q_MHK, *(picked(table_T1K, rows_M) for table_T1K in rotation))
        out_MHK = query_attention(q_MHK, k_SGK, v_SGK, places, self.backend, self.is_causal)
        return self.output(picked(out_MHK.flatten(-2), later_M if self.is_causal else order_M))


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Linear(config.width, config.ffn_size)
        self.up = Linear(config.width, config.ffn_size)
        self.down = Linear(config.ffn_size, config.width)

    def forward(self, x_TC: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_TC)) * self.up(x_TC))


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, backend: str) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config, backend)
        self.ffn_norm = RMSNorm(config.width, config.norm_eps)
        self.ffn = FeedForward(config)

    def forward(
        self,
        x_TC: Tensor,
        rotation: tuple[Tensor, Tensor],
        segments: Segments | LayerWindow,
        rows_M: Tensor | None = None,
    ) -> Tensor:
        mixed_MC = self.attention(self.attention_norm(x_TC), rotation, segments, rows_M)
        x_MC = picked(x_TC, rows_M) + mixed_MC
        return x_MC + self.ffn(self.ffn_norm(x_MC))


def each_layer(
    segments: Segments | Window, layer: int, memory: KeyValues | None
) -> Segments | LayerWindow:
    """Return what the attention of one layer must know."""
    if isinstance(segments, Segments):
        assert memory is None, "segments meet their own keys only"
        return segments
    assert memory is not None, "a window needs a memory"
    assert not torch.is_grad_enabled(), "a memory is for no gradients"
    return LayerWindow(segments, *memory.at(layer))


class Transformer(nn.Module):
    """A stack of layers between an embedding and a head, which may be the same matrix.

    Its weights are unset: `initial.new_model` draws them, `weights.load_model` reads them.
    `backend` names the attention kernel (see `attention.choose_backend`).
    """

    def __init__(
        self,
        config: ModelConfig,
        compute_dtype: torch.dtype = torch.float32,
        backend: str = "sdpa",
    ) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.backend = backend
        self.embedding = Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Layer(config, backend) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width, config.norm_eps)
        self.output = None if config.tied else Linear(config.width, config.vocab_size)

    @property
    def head_weight_VC(self) -> Tensor:
        """The matrix of the head: the embedding when tied."""
        return self.embedding.weight if self.output is None else self.output.weight

    def forward(
        self,
        ids_T: Tensor,
        segments: Segments | Window,
        rows_M: Tensor | None = None,
        memory: KeyValues | None = None,
    ) -> Tensor:
        """Return hidden_MC after the final norm, in the compute dtype: of all rows, or those asked.

        The rows of a window write their keys and values into the memory that comes with it, and
        meet all that their texts have there; for no gradients.
        The last layer's feed-forward, too, is spared the rows that nobody asks for, and where no
        gradients are wanted their queries are; with them, queries are all rows: sums over queries
        in another order would change the bits of a run.
        """
        config = self.config
        rotation = rotary_tables(
            segments.positions_T,
            config.head_size,
            config.rope_theta,
            torch.float32 if config.rope_in_float32 else self.compute_dtype,
            config.rope_scaling,
        )
        x_TC = self.embedding(ids_T).to(self.compute_dtype)
        seen = [each_layer(segments, number, memory) for number in range(config.layers)]
        for layer, own in zip(self.layers[:-1], seen, strict=False):
            x_TC = layer(x_TC, rotation, own)
        return self.final_norm(self.layers[-1](x_TC, rotation, seen[-1], rows_M))

    def head(self, hidden_MC: Tensor) -> Tensor:
        """Return logits_MV of the given hidden rows, in the compute dtype."""
        return linear(hidden_MC, self.head_weight_VC)

    def rows_about(self, rows_M: Tensor, segments: Segments | Window) -> Tensor:
        """Return the rows whose logits speak of some tokens: under the shift, those before them.

        Before a segment's first token there is none: its own row is read, as Dream does it.
        """
        if not self.config.shift:
            return rows_M
        return rows_M - (segments.positions_T.index_select(0, rows_M) > 0).to(rows_M.dtype)

    def logits_at(self, ids_T: Tensor, segment_ends: Sequence[int], rows_M: Tensor) -> Tensor:
        """Return logits_MV about the packed tokens asked for; no other row reaches the head.

        Ids and rows may come from the host.
        """
        device = self.embedding.weight.device
        segments, rows_M = Segments.of(tuple(segment_ends), device), sent(rows_M, device)
        return self.head(self(sent(ids_T, device), segments, self.rows_about(rows_M, segments)))

    def new_memory(self, slots: int) -> KeyValues:
        """Return an empty memory for this model, where its weights are."""
        weight = self.embedding.weight
        return KeyValues(self.config, slots, weight.device, self.compute_dtype)

    def logits_in(self, ids_T: Tensor, window: Window, rows_M: Tensor, memory: KeyValues) -> Tensor:
        """Return logits_MV about some tokens of a window; its keys and values stay in the memory.

        Ids, window and rows may come from the host. Under the shift the token before each of them
        is in the window too.
        """
        device = memory.k_LSGK.device
        window, rows_M = window.to(device), sent(rows_M, device)
        return self.head(self(sent(ids_T, device), window, self.rows_about(rows_M, window), memory))
