"""AdamW, clipping, and the optimizer's state as named tensors.

Weight decay acts on every matrix, the embedding included: tied, it is the LM head, whose logits
the decay keeps bounded. It does not act on the norms' vectors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from illada_core.errors import CheckpointError
from illada_core.model.stored import StoredTensor
from illada_core.training.recipe.keys import OptimizerKeys
from illada_core.training.sharding import local_part, local_rows, whole

CLIP_EPSILON = 1e-6  # that of torch.nn.utils.clip_grad_norm_
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


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the global norm of a model's gradients, of those in shards too."""
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return whole(nn.utils.get_total_norm(gradients))


def update(
    optimizer: torch.optim.AdamW,
    norm: Tensor,
    largest_norm: float,
    is_sound: Tensor,
    in_shards: bool,
) -> None:
    """Update the weights by gradients scaled down to a global norm of at most `largest_norm`.

    0 leaves gradients as they are. Unless it `is_sound`, weights and moments stay as they were. The
    fused kernel does both as it goes (it was made so for scaled losses): no pass over the gradients
    of its own, and the host waits for nothing. Gradients of a whole model are scaled before it, by
    a product and not a quotient: so the losses of one process stay what they were, bit for bit.
    """
    scale = None
    if largest_norm and in_shards:
        scale = ((norm + CLIP_EPSILON) / largest_norm).clamp(min=1.0)
    elif largest_norm:
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        nn.utils.clip_grads_with_norm_(parameters, largest_norm, norm)
    optimizer.grad_scale = scale  # type: ignore[attr-defined]
    optimizer.found_inf = is_sound.logical_not().to(norm.dtype)  # type: ignore[attr-defined]
    optimizer.step()


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
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    moments: Mapping[str, StoredTensor],
    updates: int,
) -> None:
    """Put back the moments of an optimizer that has made `updates` updates, or this rank's shards.

    Raises CheckpointError unless every parameter finds its moments, in its shape, and none is left.
    """
    learning = {name: each for name, each in model.named_parameters() if each.requires_grad}
    wanted = {
        f"{prefix}.{name}": tuple(parameter.shape)
        for name, parameter in learning.items()
        if updates
        for prefix in MOMENTS
    }
    found = {name: tensor.shape for name, tensor in moments.items()}
    if wanted != found:
        odd = sorted(name for name, _ in wanted.items() ^ found.items())
        raise CheckpointError(f"the optimizer's state does not fit the model: {', '.join(odd[:3])}")
    if not updates:
        return
    for name, parameter in learning.items():
        state = {"step": torch.tensor(float(updates), device=parameter.device)}
        for prefix, moment in MOMENTS.items():
            state[moment] = torch.zeros_like(parameter, requires_grad=False)
            rows = moments[f"{prefix}.{name}"].rows(local_rows(parameter))
            local_part(state[moment]).copy_(rows)
        optimizer.state[parameter] = state
