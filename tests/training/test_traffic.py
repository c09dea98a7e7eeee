"""What 64 ranks on eight machines send each other, counted on one of them, which sends nothing."""

from collections import Counter

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from illada_core.diffusion.corruption import corrupt, phantom
from illada_core.diffusion.denoiser import Denoiser
from illada_core.model.initial import new_model
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.files import find_recipe, load_recipe
from illada_core.training.recipe.footprint import choose_shard
from illada_core.training.recipe.traffic import step_traffic
from illada_core.training.sharding import (
    rank_mesh,
    shard_model,
    sum_over_copies,
    without_gradients,
)
from tests.diffusion.test_denoiser import CONFIG, RULE, rows

LAYERS = CONFIG.layers


@pytest.fixture
def denoiser():
    """The first of 64 ranks' shard of a tiny model."""
    dist.init_process_group("fake", rank=0, world_size=64, store=FakeStore())
    ranks = Ranks(rank=0, world=64, device=torch.device("cpu"), local_world=8)
    module = Denoiser(new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16))
    mesh = rank_mesh(ranks, choose_shard(0, ranks.world, ranks.local_world))
    shard_model(module, mesh, torch.bfloat16)
    yield module
    dist.destroy_process_group()


def sent(module, micro_batches, differentiate=True):
    """Return how often each collective is called for some micro-batches."""
    with Traffic() as traffic:
        for number, noisy in enumerate(micro_batches, 1):
            sum_over_copies(module, now=number == len(micro_batches))
            nats = module(noisy).nats
            if differentiate:
                nats.backward()
    return traffic


class Traffic(TorchDispatchMode):
    """Counts collectives by their names, and the bytes that a rank hands to them or is given."""

    def __init__(self):
        super().__init__()
        self.counts, self.bytes = Counter(), Counter()

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        room, _, name = operator.name().partition("::")
        if room == "c10d":
            self.counts[name] += 1
            whole = arguments[1 if name == "_reduce_scatter_base_" else 0]
            self.bytes[name] += sum(each.nbytes for each in tree_leaves(whole))
        return operator(*arguments, **(named or {}))


def test_machines_meet_once_a_step_and_gradients_are_added_up_in_every_pass(denoiser):
    """A layer is gathered for each of its passes, the root once; copies meet in the last pass."""
    noisy = corrupt(rows([0, 1]), RULE, 2)
    traffic = sent(denoiser, [noisy, phantom(RULE)])
    assert traffic.counts == {
        "_allgather_base_": 2 * (2 * LAYERS + 1),
        "_reduce_scatter_base_": 2 * (LAYERS + 1),
        "allreduce_": LAYERS + 1,
    }


def test_the_plan_counts_the_bytes_that_are_sent(denoiser):
    """Of two micro-batches, as two rows on each of 64 devices are; shards are padded a little."""
    traffic = sent(denoiser, [corrupt(rows([0, 1]), RULE, 2), phantom(RULE)]).bytes
    changes = ["plan.devices=64", "batch.rows=128", "batch.micro_rows=1"]
    planned = step_traffic(load_recipe(find_recipe("8b"), changes), CONFIG, 64, 8)
    assert [
        traffic["_allgather_base_"] * 7 / 8,
        traffic["_reduce_scatter_base_"] * 7 / 8,
        traffic["allreduce_"] * 2 * 7 / 8,
    ] == pytest.approx(list(planned.values()), rel=0.1)


def test_without_gradients_a_model_is_gathered_and_nothing_else(denoiser):
    noisy = corrupt(rows([0]), RULE, 1)
    with without_gradients(denoiser):
        traffic = sent(denoiser, [noisy], differentiate=False)
    assert traffic.counts == {"_allgather_base_": LAYERS + 1}
