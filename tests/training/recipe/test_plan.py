"""The plan counts what the model really does."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from illada_core.data.batches import Share
from illada_core.diffusion.loss import CHUNK_ROWS, TALL_CHUNK_ROWS
from illada_core.errors import UsageError
from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.families.illada import ILLADA_8B
from illada_core.model.initial import new_model
from illada_core.training.layers import recompute_layers
from illada_core.training.lora import add_adapters
from illada_core.training.recipe.files import find_recipe, load_recipe
from illada_core.training.recipe.footprint import (
    FROZEN_CHUNK_ROWS,
    LOSS_CHUNK_ROWS,
    activation_bytes_per_token,
    memory_bytes,
    planned_shard,
)
from illada_core.training.recipe.keys import BatchKeys, LoraKeys
from illada_core.training.recipe.plan import (
    expected_token_pairs,
    known_kind,
    plan_run,
    recomputed_flops,
    step_flops,
)
from illada_core.training.recipe.traffic import forwards_of
from tests.training.peak import peak_of_a_step

CONFIG = ModelConfig(
    vocab_size=64, width=32, layers=2, heads=4, kv_heads=2, head_size=8, ffn_size=96, max_length=64
)


def test_the_8b_plan_counts_bidirectional_attention_and_masked_rows_of_the_head():
    recipe = load_recipe(find_recipe("8b"), ["objective.split_probability=0", "run.recompute=none"])
    plan = plan_run(recipe, ILLADA_8B, recipe.run.total_tokens, 8192)
    hidden_share = 0.001 + 0.999 / 2
    last = 4096 * (4096 + 3 * 14_336)  # after attention, of the last layer
    rows = (last + 155_136 * 4096) * hidden_share
    expected = 6 * (6_979_588_096 - last + rows) + 12 * 32 * 4096 * 8192
    assert plan.flops_per_token == pytest.approx(expected, rel=1e-12)
    assert plan.parameters == 7_615_025_152
    assert plan.tokens_per_step == 640 * 8192
    assert plan.steps == -(-12 * 10**12 // (640 * 8192))
    busy = 640  # of the 1024 devices that the plan is for
    assert plan.seconds == pytest.approx(12e12 * expected / (busy * 989e12 * 0.4))
    assert plan.memory_bytes["AdamW moments, float32"] == 7_615_025_152, "8 bytes, on 8 devices"


@pytest.mark.parametrize(("devices", "shard", "held"), [(1, 0, 1), (12, 0, 4), (16, 16, 16)])
def test_devices_that_share_a_copy_hold_their_part_of_it(devices, shard, held):
    changes = [f"plan.devices={devices}", f"parallel.shard={shard}"]
    plan = plan_run(load_recipe(find_recipe("8b"), changes), ILLADA_8B, 10**12, 8192)
    assert plan.shard == held
    states = [size for part, size in plan.memory_bytes.items() if "float32" in part]
    assert sum(states) == pytest.approx(16 * 7_615_025_152 / held)
    assert ("weights gathered" in plan.memory_bytes) is (held > 1)


def test_recomputed_layers_take_less_memory_and_more_time():
    kept, again = (
        plan_run(
            load_recipe(find_recipe("8b"), ["plan.devices=1", f"run.recompute={wanted}"]),
            ILLADA_8B,
            10**12,
            8192,
        )
        for wanted in ("none", "full")
    )
    inputs = 32 * 8192 * 4096 * 2
    one_layer = kept.memory_bytes["activations"] / 32
    assert again.memory_bytes["activations"] == pytest.approx(inputs + one_layer)
    for plan in (kept, again):
        assert plan.memory_bytes["weights cast for the step"] == 2 * 7_615_025_152
    assert again.flops_per_token == kept.flops_per_token
    assert again.seconds / kept.seconds == pytest.approx(
        1 + again.recomputed_flops_per_token / kept.flops_per_token
    )


def planned(*changes, row_tokens=8192):
    return plan_run(load_recipe(find_recipe("8b"), list(changes)), ILLADA_8B, 10**12, row_tokens)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (("run.recompute=none", "batch.micro_rows=1"), ("run.recompute=selective",)),
        (("run.recompute=none", "batch.micro_rows=4"), ("run.recompute=full",)),
        (("run.recompute=full", "batch.micro_rows=40"), ("batch.micro_rows=1",)),
        (("parallel.shard=1",), ("parallel.shard=2",)),
        (("parallel.shard=1", "plan.devices=1"), None),
        ((), None),
    ],
)
def test_the_plan_says_what_to_change_where_it_does_not_fit(changes, remedy):
    plan = planned("plan.device=H100", "plan.devices=16", *changes)
    assert plan.remedy == remedy
    assert plan.fits is (not changes)
    if remedy:
        assert planned("plan.device=H100", "plan.devices=16", *changes, *remedy).fits


def test_a_plan_for_more_devices_than_there_are_is_made_at_once():
    assert planned("plan.device=H100", f"plan.devices={2**40}", "parallel.shard=1").remedy == (
        "parallel.shard=2",
    )


def test_devices_that_cannot_share_copies_are_found_on_a_laptop():
    with pytest.raises(UsageError, match=r"parallel\.shard is 24, which does not divide the 512"):
        planned("plan.devices=512", "parallel.shard=24")
    with pytest.raises(UsageError, match=r"plan\.device h999 is not known"):
        planned("plan.device=h999")
    assert planned("plan.device=h100").device == "H100"


@pytest.mark.parametrize(
    ("rows", "micro_rows", "devices", "each", "filled"),
    [
        (640, 1, 512, 2, 640 / 1024),
        (1024, 1, 512, 2, 1.0),
        (1024, 4, 512, 1, 1.0),
        (5, 1, 2, 3, 5 / 6),
        (3, 2, 8, 1, 3 / 8),
    ],
)
def test_rows_fill_the_time_of_the_devices_that_have_most(rows, micro_rows, devices, each, filled):
    keys = BatchKeys(rows=rows, micro_rows=micro_rows)
    forwards = forwards_of(keys, devices)
    assert (forwards.each, forwards.filled) == (each, pytest.approx(filled))
    shares = [Share(rows, micro_rows, rank, devices).micro_places(0) for rank in range(devices)]
    assert {len(share) for share in shares} == {each}
    assert max(sum(map(len, share)) for share in shares) == forwards.most_rows


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("devices", [1, 512])
def test_the_memory_of_the_plan_is_what_lives_in_a_step_of_one_of_its_ranks(devices, recompute):
    """Counted operator by operator in the real code, among ranks that are not there.

    The plan may count too much, by what does not live at the same time, and hardly too little.
    """
    config = replace(CONFIG, vocab_size=2048, width=128, layers=6, head_size=32, ffn_size=512)
    config = replace(config, max_length=1024)
    changes = [f"run.recompute={recompute}", f"plan.devices={devices}", "run.compile=false"]
    recipe = load_recipe(find_recipe("8b"), changes)
    planned = memory_bytes(recipe, config, 1024, 0.5, planned_shard(recipe))
    living = peak_of_a_step(recipe, config, 1024)
    assert 0.98 < sum(planned.values()) / living < 1.15


@pytest.mark.parametrize("recomputes", [False, True])
def test_flops_agree_with_those_that_torch_counts(recomputes):
    model = new_model(CONFIG, seed=0, dtype=torch.bfloat16)
    if recomputes:
        recompute_layers(model)
    ends, head_rows = (40, 64), torch.arange(0, 64, 2)
    # Plain kernels: the counter does not know the CPU's fused ones, nor oneDNN's in float32.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        hidden_MC = model(torch.arange(64), Segments.of(ends, torch.device("cpu")), head_rows)
        model.head(hidden_MC).sum().backward()
    shape = (64, 40**2 + 24**2, len(head_rows))
    counted = step_flops(CONFIG, *shape) + (recomputes and recomputed_flops(CONFIG, *shape))
    # What remains are the norms' vectors, which are parameters but no matrix products.
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)


def test_the_plan_leaves_room_for_a_chunk_of_the_loss():
    assert CHUNK_ROWS <= FROZEN_CHUNK_ROWS
    assert TALL_CHUNK_ROWS <= LOSS_CHUNK_ROWS


def test_a_random_cut_leaves_two_thirds_of_the_pairs():
    cuts = range(1, 1000)
    mean = sum(cut**2 + (1000 - cut) ** 2 for cut in cuts) / len(cuts)
    assert expected_token_pairs(1000, 1.0) == pytest.approx(mean, rel=2e-3)


@pytest.mark.parametrize(
    ("recompute", "device", "row_tokens", "fits"),
    [
        ("none", "H100", 8192, False),
        ("none", "H100", 4096, True),
        ("full", "RTX 4090", 8192, True),
    ],
)
def test_adapters_of_the_8b_fit_a_device_if_activations_do(recompute, device, row_tokens, fits):
    asked = ["model.ckpt=base", "lora.rank=16", f"run.recompute={recompute}", "plan.devices=1"]
    recipe = load_recipe(find_recipe("8b-sft"), [*asked, f"plan.device={device}"])
    plan = plan_run(recipe, ILLADA_8B, 10**9, row_tokens)
    assert (sum(plan.memory_bytes.values()) < plan.device_memory_bytes) is fits


@pytest.mark.parametrize(
    ("dtype", "targets"),
    [
        (torch.float32, None),
        (torch.bfloat16, None),
        (torch.bfloat16, "all"),
        (torch.bfloat16, "attention"),
        (torch.bfloat16, "ffn"),
    ],
)
def test_activation_memory_is_what_autograd_keeps(dtype, targets):
    lora = LoraKeys(rank=2, targets=targets) if targets else LoraKeys()
    model = new_model(CONFIG, 0, dtype=dtype if targets else torch.float32, compute_dtype=dtype)
    if targets:
        add_adapters(model, lora, seed=0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes, kept = {parameter.shape for parameter in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.shape not in sizes:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = 512
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ids_T = torch.arange(tokens) % 64
        hidden_TC = model(ids_T, Segments.of((tokens,), torch.device("cpu")))
    del hidden_TC
    estimated = tokens * activation_bytes_per_token(CONFIG, dtype.itemsize, lora)
    assert sum(kept.values()) == pytest.approx(estimated, rel=0.15)


@pytest.mark.parametrize(
    ("reported", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H20", 148e12),
    ],
)
def test_device_peaks_are_found_by_the_drivers_name(reported, peak):
    assert known_kind(reported).peak_flops == peak


def test_an_unknown_device_has_no_peak():
    assert known_kind("cpu x86_64") is None
    for near in ("NVIDIA L40", "NVIDIA RTX A1000", "NVIDIA H100X"):
        assert known_kind(near) is None
