"""Weights of the layers in 8 or 4 bits, through torchao: for devices whose memory is small.

Made when a model is loaded, from the released files; nothing is written in these formats.
Embedding, head and norms stay as they are: their errors would reach every logit. Inputs stay in
the compute dtype. torchao is an extra, and for inference it is met only here.

Shapes: T rows, C channels.
"""

import logging
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from illada_core.errors import UsageError
from illada_core.model.transformer import Transformer

Quantization = Literal["int8", "int4"]
GROUP_SIZE = 32  # weights that share a scale in 4 bits
TALKATIVE = ("torchao", "torch.utils._pytree")
INT4_STEP = 16  # what the kernel takes of outputs, beside whole groups of inputs


def quantize(model: Transformer, wanted: Quantization, device: torch.device) -> None:
    """Round the projections of the layers: `int8` by rows, `int4` by groups of 32, on GPUs only.

    Raises UsageError where torchao is missing, or the device, dtype or sizes do not allow it.
    """
    if fault := fault_of(model, wanted, device):
        raise UsageError(f"--quantize {wanted} {fault[0]}", fault[1])
    for name in TALKATIVE:  # of kernels that are not needed here
        logging.getLogger(name).setLevel(logging.ERROR)
    from torchao.quantization import quantize_

    for layer in model.layers:  # one by one: no second copy of the model is needed
        quantize_(
            layer, config_of(wanted), filter_fn=lambda module, _: isinstance(module, nn.Linear)
        )
        for module in projections(layer):
            module.forward = partial(product, module)  # type: ignore[method-assign]


def fault_of(
    model: Transformer, wanted: Quantization, device: torch.device
) -> tuple[str, str] | None:
    """Say why a model cannot be rounded so, with a hint; None if it can."""
    if find_spec("torchao") is None:
        return "needs the package torchao", "pip install 'illada[quant]'"
    if wanted == "int8":
        return None
    if device.type != "cuda":
        return f"has no kernel for {device.type}", "int8 has one"
    if model.compute_dtype != torch.bfloat16:
        name = str(model.compute_dtype).removeprefix("torch.")
        return f"computes in bfloat16 only, not {name}", "--dtype bfloat16"
    if any(
        module.out_features % INT4_STEP or module.in_features % GROUP_SIZE
        for module in projections(model.layers)
    ):
        return f"takes widths in steps of {GROUP_SIZE} only", "int8 takes any"
    return None


def config_of(wanted: Quantization) -> Any:
    """Return torchao's words for it."""
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    if wanted == "int8":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    return Int4WeightOnlyConfig(
        group_size=GROUP_SIZE,
        int4_packing_format="tile_packed_to_4d",
        set_inductor_config=False,
    )


def projections(layers: nn.Module) -> list[nn.Linear]:
    """Return the products of some layers."""
    return [module for module in layers.modules() if isinstance(module, nn.Linear)]


def product(module: nn.Linear, x_TC: Tensor) -> Tensor:
    """Multiply by a rounded weight, which knows how."""
    return F.linear(x_TC, module.weight)


def stored_numbers(parameter: Tensor) -> Tensor:
    """Return the numbers that are kept of a parameter, rounded or not."""
    return getattr(parameter, "qdata", parameter)
