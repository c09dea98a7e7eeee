"""Layers that are compiled, or computed again for the gradient, compute what they always did."""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from illada_core.model import attention
from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.training import layers
from illada_core.training.layers import compile_layers, recompute_layers, wrap_layers
from illada_core.training.lora import add_adapters
from illada_core.training.recipe.keys import LoraKeys
from tests.training.packed_kernel import flash_attention, packed_kernel

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    vocab_size=8, width=8, layers=2, heads=2, kv_heads=1, head_size=4, ffn_size=8, max_length=64
)
PACKINGS = ((8, 20), (9, 30, 33), (17,), (5, 6, 40))


def hidden_rows(model, ends):
    """Return hidden states of every other row of some packed segments."""
    ids_T, rows_M = torch.arange(ends[-1]) % 8, torch.arange(0, ends[-1], 2)
    return model(ids_T, Segments.of(ends, CPU), rows_M)


def gradients(model):
    """Return the gradients of a step over several packings."""
    for ends in PACKINGS:
        hidden_rows(model, ends).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]


def test_compiled_layers_are_compiled_once_for_all_packings():
    eager, compiled = new_model(CONFIG, seed=0), new_model(CONFIG, seed=0)
    compile_layers(compiled, backend="eager")
    for number, ends in enumerate(PACKINGS):
        stance = "default" if number == 0 else "fail_on_recompile"
        with torch.compiler.set_stance(stance):
            found = hidden_rows(compiled, ends)
        torch.testing.assert_close(found, hidden_rows(eager, ends))


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_with_a_packed_kernel_all_packings_are_two_graphs_and_no_break(monkeypatch, recompute):
    """Of all layers, for steps, phantoms, validation and answers: where rows are picked, or not."""
    for room in (attention, layers):
        monkeypatch.setattr(room, "flash_attention", flash_attention)
    monkeypatch.setattr(attention, "packed_kernel", packed_kernel)
    eager, compiled = (new_model(CONFIG, seed=0, backend="varlen") for _ in range(2))
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(layers, "compile_layers", partial(compile_layers, backend="eager"))
    wrap_layers(compiled, True, recompute)
    for ends in (*PACKINGS, (1,), (64,)):
        found, expected = hidden_rows(compiled, ends), hidden_rows(eager, ends)
        for rows in (found, expected):
            rows.square().sum().backward()
        with torch.no_grad():
            assert torch.equal(hidden_rows(compiled, ends), hidden_rows(eager, ends))
        torch.testing.assert_close(found, expected)
    for one, other in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
def test_recomputed_layers_give_the_same_gradients_bit_for_bit(backend):
    plain = new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16, backend=backend)
    again = new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16, backend=backend)
    recompute_layers(again)
    for expected, found in zip(gradients(plain), gradients(again), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_selectively_recomputed_layers_repeat_no_product_outside_attention(backend, dtype):
    plain = new_model(CONFIG, seed=0, compute_dtype=dtype, backend=backend)
    again = new_model(CONFIG, seed=0, compute_dtype=dtype, backend=backend)
    recompute_layers(again, selective=True)
    products = Products()
    with products:
        expected = gradients(plain)
        once = products.count
        found = gradients(again)
    assert 0 < products.count == 2 * once
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


class Products(TorchDispatchMode):
    """Counts the products of two matrices."""

    count = 0

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        self.count += operator.name() in ("aten::mm", "mkldnn::_linear_pointwise")
        return operator(*arguments, **(named or {}))


def test_recomputed_layers_with_adapters_give_the_same_gradients():
    plain, again = new_model(CONFIG, seed=0), new_model(CONFIG, seed=0)
    for model in (plain, again):
        add_adapters(model, LoraKeys(rank=2), seed=0)
    recompute_layers(again)
    pairs = list(zip(gradients(plain), gradients(again), strict=True))
    assert any(expected is not None and expected.any() for expected, _ in pairs)
    for expected, found in pairs:
        assert found is expected is None or torch.equal(expected, found)


def test_compiled_layers_can_be_recomputed():
    compiled, both = new_model(CONFIG, seed=0), new_model(CONFIG, seed=0)
    compile_layers(compiled, backend="aot_eager")
    compile_layers(both, backend="aot_eager")
    recompute_layers(both)
    for expected, found in zip(gradients(compiled), gradients(both), strict=True):
        assert torch.equal(expected, found)


def test_recomputed_layers_change_no_name():
    plain, again = new_model(CONFIG, seed=0), new_model(CONFIG, seed=0)
    recompute_layers(again)
    assert plain.state_dict().keys() == again.state_dict().keys()
