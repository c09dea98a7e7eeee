import subprocess
import sys

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.model.config import (
    ModelConfig,
    non_embedding_parameter_count,
    parameter_count,
    parameter_shapes,
)
from illada_core.model.families.illada import ILLADA_8B
from illada_core.model.families.llada import LLADA_8B
from illada_core.model.transformer import Transformer


@pytest.mark.parametrize(
    ("config", "total"), [(ILLADA_8B, 7_615_025_152), (LLADA_8B, 8_015_581_184)]
)
def test_presets_have_exactly_the_published_parameters(config, total):
    assert parameter_count(config) == total
    assert non_embedding_parameter_count(config) == 6_979_588_096
    with torch.device("meta"):
        model = Transformer(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert list(shapes.items()) == list(parameter_shapes(config).items())
    assert sum(weight.numel() for weight in model.parameters()) == total


def test_config_needs_no_torch():
    code = "import sys, illada_core.model.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "wrong",
    [{"kv_heads": 3}, {"head_size": 15}, {"layers": 0}, {"mask_id": 320}, {"family": "gpt"}],
)
def test_contradicting_sizes_are_told(wrong):
    sizes = {"vocab_size": 320, "width": 64, "layers": 3, "heads": 4, "kv_heads": 2}
    sizes |= {"head_size": 16, "ffn_size": 160, "max_length": 512}
    with pytest.raises(UsageError):
        ModelConfig(**sizes | wrong)
