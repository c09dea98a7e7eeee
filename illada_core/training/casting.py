"""Weights of the layers in the compute dtype: cast once an update, and not at each use.

Learned weights are kept in float32. A micro-batch, its backward pass and layers computed again read
the same copies; gradients go to the weights themselves. Copies are old once the optimizer has made
a step, or a weight's version says that somebody else has written it. Values are those of a cast at
each use, bit for bit.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from illada_core.model.kernels.linear import linear
from illada_core.model.transformer import Linear, Transformer
from illada_core.training.recipe.keys import Recipe


class Copied(torch.autograd.Function):
    """A weight's copy where the weight is meant: its gradient is the weight's."""

    @staticmethod
    def forward(ctx: Any, weight_NC: Tensor, copy_NC: Tensor) -> Tensor:
        ctx.dtype = weight_NC.dtype
        return copy_NC.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return gradients[0].to(ctx.dtype), None


class Copies:
    """Copies of the weights of some projections, and which versions of these they are.

    Fused optimizers write weights without counting: after their step all copies are `old`.
    """

    old = True

    def __init__(self, projections: list[Linear], dtype: torch.dtype) -> None:
        self.weights: list[Tensor] = [each.weight for each in projections]
        self.copies = [torch.empty_like(weight, dtype=dtype) for weight in self.weights]
        self.versions: list[int] = []
        for projection, copy_NC in zip(projections, self.copies, strict=True):
            projection.forward = partial(project, projection, copy_NC)  # type: ignore[method-assign]

    @torch.no_grad()
    def renew(self) -> None:
        """Copy all weights anew if any was written since."""
        versions = [weight._version for weight in self.weights]
        if self.old or versions != self.versions:
            torch._foreach_copy_(self.copies, [weight.detach() for weight in self.weights])
            self.old, self.versions = False, versions

    def outdate(self, *_step: Any) -> None:
        """Take all copies for old: weights are others now."""
        self.old = True


def project(projection: Linear, copy_NC: Tensor, x_TC: Tensor) -> Tensor:
    """Return what a projection makes of rows in the dtype of its weight's copy."""
    out_TN = linear(x_TC, Copied.apply(projection.weight, copy_NC))
    return out_TN if projection.bias is None else out_TN + projection.bias.to(out_TN.dtype)


def holds_masters(recipe: Recipe) -> bool:
    """Whether the layers of a run have weights of float32 that they cast themselves to less."""
    keys = recipe.run
    return keys.compute_dtype != "float32" and not keys.float8 and not recipe.lora.rank


def cast_once(model: Transformer, optimizer: torch.optim.Optimizer) -> None:
    """Let the layers read copies of their weights; these must be where they stay."""
    layers = [module for layer in model.layers for module in layer.modules()]
    projections = [module for module in layers if isinstance(module, Linear)]
    copies = Copies(projections, model.compute_dtype)
    optimizer.register_step_post_hook(copies.outdate)

    def renew(_model: nn.Module, _inputs: Any) -> None:
        copies.renew()

    model.register_forward_pre_hook(renew)
