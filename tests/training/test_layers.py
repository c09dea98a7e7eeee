"""Layers that are compiled, or computed again for the gradient, compute what they always did."""

import pytest
import torch

from illada_core.model.attention import Segments
from illada_core.model.config import ModelConfig
from illada_core.model.initial import new_model
from illada_core.training.layers import compile_layers, recompute_layers
from illada_core.training.lora import add_adapters
from illada_core.training.recipe.keys import LoraKeys

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


@pytest.mark.parametrize("backend", ["sdpa", "matmul"])
def test_recomputed_layers_give_the_same_gradients_bit_for_bit(backend):
    plain = new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16, backend=backend)
    again = new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16, backend=backend)
    recompute_layers(again)
    for expected, found in zip(gradients(plain), gradients(again), strict=True):
        assert torch.equal(expected, found)


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
