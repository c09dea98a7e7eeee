"""The memory of all tensors that live at once, counted operator by operator, on any device.

python -m tests.training.peak 8b none        # of a rank of 512: fake tensors take no memory
"""

import sys
import time
import weakref
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from illada_core.diffusion.corruption import Corrupted
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.attention import Segments
from illada_core.model.families.illada import ILLADA_8B
from illada_core.model.transformer import Transformer
from illada_core.training.casting import cast_once
from illada_core.training.layers import wrap_layers
from illada_core.training.optim import gradient_norm, new_optimizer, update
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.files import find_recipe, load_recipe
from illada_core.training.recipe.footprint import planned_shard
from illada_core.training.recipe.plan import plan_run
from illada_core.training.sharding import local_part, rank_mesh, shard_model


class Peak(TorchDispatchMode):
    """Counts the bytes of all storages that were made or met while it is on."""

    def __init__(self, *known):
        super().__init__()
        self.storages, self.largest = {}, 0
        for tensor in known:
            self.meet(tensor)

    @property
    def living(self):
        """The bytes that live now. A storage may have been made smaller since it was met."""
        found = (reference() for reference in list(self.storages.values()))
        return sum(storage.nbytes() for storage in found if storage is not None)

    def meet(self, tensor):
        """Count the storage of a tensor from now on; of one in shards, that of this rank's."""
        storage = local_part(tensor.detach()).untyped_storage()
        key = id(storage)
        if key not in self.storages:
            self.storages[key] = weakref.ref(storage, lambda _: self.storages.pop(key, None))

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        result = operator(*arguments, **(named or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.meet(tensor)
        self.largest = max(self.largest, self.living)
        return result


def peak_of_a_step(recipe, config, row_tokens, fake=False):
    """Return the bytes that live at once in the second step of one of a recipe's planned devices.

    The other ranks are not there: their collectives do nothing.
    """
    devices, shard, cpu = recipe.plan.devices, planned_shard(recipe), torch.device("cpu")
    dist.init_process_group("fake", rank=0, world_size=devices, store=FakeStore())
    mesh = rank_mesh(Ranks(0, devices, cpu, shard), shard) if devices > 1 else None
    Segments.of((row_tokens,), cpu)  # of numbers, which fake tensors have none of
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        model = Transformer(config, torch.bfloat16, "sdpa")
        wrap_layers(model, compiles=False, recompute=recipe.run.recompute)
        denoiser = Denoiser(model)
        if mesh is not None:
            shard_model(denoiser, mesh, torch.bfloat16)
        optimizer = new_optimizer(denoiser, recipe.optimizer)
        if mesh is None:
            cast_once(model, optimizer)
        noisy = half_hidden(row_tokens)
        peak = Peak(*denoiser.parameters())
        with peak:
            for _ in range(2):
                (denoiser(noisy).nats / row_tokens).backward()
                norm, is_sound = gradient_norm(denoiser), torch.ones((), dtype=torch.bool)
                update(optimizer, norm, 1.0, is_sound, in_shards=mesh is not None)
                optimizer.zero_grad(set_to_none=True)
    dist.destroy_process_group()
    return peak.largest


def half_hidden(tokens):
    """Return a row of which every other token is hidden."""
    hidden_M = torch.arange(0, tokens, 2)
    ones_M = torch.ones(len(hidden_M))
    ids_T = torch.zeros(tokens, dtype=torch.int64)
    return Corrupted(ids_T, (tokens,), hidden_M, ids_T[hidden_M], ones_M, ones_M, tokens, tokens)


if __name__ == "__main__":
    began = time.perf_counter()
    changes = [f"run.recompute={sys.argv[2]}", "plan.devices=512", "run.compile=false"]
    asked = load_recipe(find_recipe(sys.argv[1]), changes)
    counted = peak_of_a_step(asked, ILLADA_8B, 8192, fake=True)
    parts = plan_run(asked, ILLADA_8B, asked.run.total_tokens, 8192).memory_bytes
    tensors = sum(list(parts.values())[:-2])  # but for the context and what lies between them
    print(
        f"{sys.argv[2]}: counted {counted / 1e9:.1f} GB, planned {tensors / 1e9:.1f} GB", end="; "
    )
    print(f"{time.perf_counter() - began:.0f} s")
