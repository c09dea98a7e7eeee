"""One model over many ranks: weights, gradients and moments in shards (FSDP2), rows apart.

A layer is gathered for its forward and its backward pass, computes in the compute dtype, and its
gradients are reduced in float32. Embedding, final norm and head are a group of the root, in which
the loss is, and stay in float32: the head's gradient is then that of one process. Ranks add up,
they do not average: the loss is already divided by the global count of tokens.

Over several machines each holds a copy in shards of its own ranks (HSDP), so that only gradients
travel between them, once a step. A process without other ranks has the plain model, and nothing
here touches it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from illada_core.diffusion.denoiser import Denoiser
from illada_core.training.parallel import Ranks


def rank_mesh(ranks: Ranks, shard: int) -> DeviceMesh:
    """Return the ranks as a mesh: copies by `shard` neighbours each, or one copy over all."""
    kind, copies = ranks.device.type, ranks.world // shard
    if copies == 1:
        return init_device_mesh(kind, (shard,), mesh_dim_names=("shard",))
    return init_device_mesh(kind, (copies, shard), mesh_dim_names=("replicate", "shard"))


def shard_model(denoiser: Denoiser, mesh: DeviceMesh, layer_dtype: torch.dtype | None) -> None:
    """Leave this rank its shard of every parameter; layers are gathered in `layer_dtype`.

    None gathers them as they are kept. Comes after all else that is done to a model, before its
    weights are read: they may still be on the meta device.
    """
    in_layers = MixedPrecisionPolicy(layer_dtype, torch.float32, cast_forward_inputs=False)
    in_root = MixedPrecisionPolicy(None, torch.float32, cast_forward_inputs=False)
    for layer in denoiser.transformer.layers:
        fully_shard(layer, mesh=mesh, mp_policy=in_layers)
    fully_shard(denoiser, mesh=mesh, mp_policy=in_root)
    register_fsdp_forward_method(denoiser, "logits_at")
    for group in denoiser.modules():
        if isinstance(group, FSDPModule):
            # Both: the factor alone asks for a scaled sum, which gloo lacks, and none at all
            # for a mean, of which gloo makes a sum.
            group.set_gradient_divide_factor(1.0)
            group.set_force_sum_reduction_for_comms(True)


def sum_over_copies(denoiser: nn.Module, now: bool) -> None:
    """Let the next backward pass add up the gradients of all copies, or leave that to a later one.

    Within a copy they are added up in every pass.
    """
    if isinstance(denoiser, FSDPModule):
        denoiser.set_requires_all_reduce(now)


@contextmanager
def without_gradients(denoiser: nn.Module) -> Iterator[None]:
    """Ask a model that is not to learn from it; what was gathered of the root is let go.

    Kept, it would be stale after an update, and nobody would notice.
    """
    with torch.no_grad():
        yield
    if isinstance(denoiser, FSDPModule):
        denoiser.reshard()


def local_part(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor as one process would hold it; every rank must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_rows(tensor: Tensor) -> slice:
    """Return which rows of a tensor this rank holds: neighbouring ones, perhaps none."""
    rows = len(tensor)
    if not isinstance(tensor, DTensor):
        return slice(0, rows)
    mesh, held = tensor.device_mesh, len(tensor.to_local())
    chunk = -(-rows // mesh.size(mesh.ndim - 1))
    first = min(rows, chunk * mesh.get_local_rank(mesh.ndim - 1))
    assert held == min(chunk, rows - first), "shards are equal chunks of rows, but for the last"
    return slice(first, first + held)
