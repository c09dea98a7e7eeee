"""Weights in 8 and 4 bits: near the model they come from, and refused where they cannot be."""

import copy
import importlib.util

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.model import quantized
from illada_core.model.initial import new_model
from illada_core.model.quantized import quantize
from illada_core.model.weights import digest_of_weights
from tests.model.test_transformer import CPU, TINY

needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed"
)


@needs_torchao
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_rounds_each_row_of_the_layers_to_one_of_255_values(dtype):
    model = new_model(TINY, seed=0, dtype=dtype, compute_dtype=dtype).requires_grad_(False)
    rounded = copy.deepcopy(model)
    quantize(rounded, "int8", CPU)
    by_hand = copy.deepcopy(model)
    layers = [quantized.projections(each) for each in (model, rounded, by_hand)]
    assert len(layers[0]) == 7 * TINY.layers
    slack = 0.0 if dtype == torch.float32 else 2**-7  # of what bfloat16 itself rounds
    for exact, near, plain in zip(*layers, strict=True):
        weight, rows = exact.weight.float(), near.weight.dequantize()
        assert all(len(row.unique()) <= 256 for row in rows)
        step = weight.abs().amax(1, keepdim=True) / 127
        assert ((rows.float() - weight).abs() <= 0.51 * step + slack * weight.abs()).all()
        plain.weight.copy_(rows)
    ids_T, rows_M = torch.arange(40) % TINY.vocab_size, torch.tensor([3, 17, 39])
    found, expected, exact = (
        each.logits_at(ids_T, (15, 40), rows_M).float() for each in (rounded, by_hand, model)
    )
    assert not torch.equal(found, exact)
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < (1e-5 if dtype == torch.float32 else 3e-2)
    for name, parameter in rounded.named_parameters():
        if not name.startswith("layers.") or name.endswith("norm.weight"):
            assert torch.equal(parameter, model.get_parameter(name))
    assert digest_of_weights(rounded) != digest_of_weights(model)


def test_what_cannot_be_rounded_is_refused(monkeypatch):
    model = new_model(TINY, seed=0)
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--quantize int8 needs the package torchao") as caught:
        quantize(model, "int8", CPU)
    assert caught.value.hint == "pip install 'illada[quant]'"
    monkeypatch.setattr(quantized, "find_spec", lambda name: "found")
    with pytest.raises(UsageError, match="--quantize int4 has no kernel for cpu"):
        quantize(model, "int4", CPU)
    gpu = torch.device("cuda")
    with pytest.raises(UsageError, match="computes in bfloat16 only, not float32"):
        quantize(model, "int4", gpu)
    model = new_model(TINY, seed=0, compute_dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="takes widths in steps of 32 only"):
        quantize(model, "int4", gpu)
