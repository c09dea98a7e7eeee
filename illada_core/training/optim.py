"""AdamW, clipping, and the optimizer's state as named tensors.

Weight decay acts on every matrix, the embedding included: tied, it is the LM head, whose logits
the decay keeps bounded. It does not act on the norms' vectors.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from illada_core.errors import CheckpointError
from illada_core.training.recipe.keys import OptimizerKeys

MOMENTS = {"mean": "exp_avg", "mean_square": "exp_avg_sq"}


def new_optimizer(model: nn.Module, keys: OptimizerKeys) -> torch.optim.AdamW:
    """Return a fused AdamW over the model's parameters, matrices and vectors apart."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [each for each in parameters if each.ndim > 1]},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=keys.peak_lr,
        betas=(keys.beta1, keys.beta2),
        eps=keys.epsilon,
        weight_decay=keys.weight_decay,
        fused=True,
    )


def clip_gradients(parameters: Iterable[Tensor], largest_norm: float) -> Tensor:
    """Scale gradients down to a global norm of at most `largest_norm` (0: never); return it.

    A non-finite norm leaves the gradients useless: the caller must drop the step.
    """
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    if largest_norm:
        nn.utils.clip_grads_with_norm_(parameters, largest_norm, norm)
    return norm


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def moment_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments as `mean.NAME` and `mean_square.NAME`; empty before the first step."""
    return {
        f"{prefix}.{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for prefix, moment in MOMENTS.items()
    }


def restore_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor], updates: int
) -> None:
    """Put back the moments of an optimizer that has made `updates` updates.

    Raises CheckpointError unless every parameter finds its moments, in its shape, and none is left.
    """
    wanted = {
        f"{prefix}.{name}": parameter.shape
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and updates
        for prefix in MOMENTS
    }
    found = {name: tensor.shape for name, tensor in moments.items()}
    if wanted != found:
        odd = sorted(name for name, _ in wanted.items() ^ found.items())
        raise CheckpointError(f"the optimizer's state does not fit the model: {', '.join(odd[:3])}")
    if not updates:
        return
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(updates), device=parameter.device),
                **{
                    moment: moments[f"{prefix}.{name}"].to(parameter.device)
                    for prefix, moment in MOMENTS.items()
                },
            }
