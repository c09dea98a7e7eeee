"""Layers that multiply in float8: the wide projections only, near what bfloat16 gives."""

from importlib.util import find_spec

import pytest
import torch

from illada_core.diffusion.corruption import phantom
from illada_core.diffusion.denoiser import Denoiser
from illada_core.errors import UsageError
from illada_core.model.initial import new_model
from illada_core.training.setup import prepare
from tests.diffusion.test_denoiser import CONFIG, RULE
from tests.training.test_loop import losses, run_training

WIDE = ("model.width=32", "model.ffn_size=48", "model.kv_heads=2")
KEYS = ("run.float8=true", "run.compute_dtype=bfloat16", *WIDE)
HAS_PACKAGE = find_spec("torchao") is not None
needs_package = pytest.mark.skipif(not HAS_PACKAGE, reason="needs torchao (extra: float8)")


@needs_package
def test_wide_projections_are_swapped_and_no_name_changes():
    from illada_core.training.float8 import multiply_in_float8

    model = new_model(CONFIG, seed=0)
    names = model.state_dict().keys()
    multiply_in_float8(model, torch.device("cpu"))
    assert model.state_dict().keys() == names
    swapped = {name for name, each in model.named_modules() if "Float8" in type(each).__name__}
    projections = ("attention.query", "attention.output")  # 24 channels of the ffn fit no kernel
    assert swapped == {f"layers.{layer}.{name}" for layer in range(2) for name in projections}


@needs_package
def test_a_phantom_adds_nothing():
    from illada_core.training.float8 import multiply_in_float8

    denoiser = Denoiser(new_model(CONFIG, seed=0, compute_dtype=torch.bfloat16))
    multiply_in_float8(denoiser.transformer, torch.device("cpu"))
    denoiser(phantom(RULE)).nats.backward()
    assert all(not parameter.grad.any() for parameter in denoiser.parameters())


@needs_package
@pytest.mark.parametrize("recompute", ["none", "selective"])
def test_a_run_in_float8_learns_what_one_in_bfloat16_does_and_goes_on(recipe, tmp_path, recompute):
    asked = recipe(*KEYS, f"run.recompute={recompute}")
    run_training(recipe(*KEYS[1:]), tmp_path / "plain")
    run_training(asked, tmp_path / "whole")
    run_training(asked, tmp_path / "parts", stop_after=5)
    run_training(asked, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for plain, rounded in zip(losses(tmp_path / "plain"), losses(tmp_path / "whole"), strict=True):
        assert rounded.get("loss", 0) == pytest.approx(plain.get("loss", 0), rel=0.02)
    assert losses(tmp_path / "plain") != losses(tmp_path / "whole")


@pytest.mark.skipif(HAS_PACKAGE, reason="torchao is here")
def test_without_the_package_the_extra_is_named(recipe):
    with pytest.raises(UsageError, match=r"run\.float8 needs the package torchao") as caught:
        prepare(recipe(*KEYS))
    assert "illada[float8]" in caught.value.hint


@pytest.mark.parametrize("change", ["run.compute_dtype=float32", "lora.rank=2"])
def test_float8_goes_with_bfloat16_and_without_adapters(recipe, change):
    with pytest.raises(UsageError, match=r"run\.float8 needs run\.compute_dtype bfloat16"):
        recipe(*KEYS, change)
