"""What a config.json says is computed or refused by its name, in both layouts alike."""

import json
import shutil
from pathlib import Path

import pytest

from illada_core.errors import CheckpointError
from illada_core.model.configfile import config_facts, read_config

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BOTH = pytest.mark.parametrize("family", ["illada", "llada"])


@pytest.fixture
def folder(tmp_path):
    """A copy of the iLLaDA fixture's configuration, to change."""
    return copy_config("illada", tmp_path)


def copy_config(family, folder):
    shutil.copy(FIXTURES / f"{family}-tiny" / "config.json", folder)
    return folder


def change_config(folder, **facts):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"model_type": "gpt2"}, "the model type is 'gpt2'"),
        ({"model_type": None}, "the model type is None"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rotary positions of type 'yarn'"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
        ({"use_qk_norm": True}, "use_qk_norm is true"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"hidden_size": "wide"}, 'hidden_size is "wide", not a whole number'),
        ({"hidden_size": None}, "hidden_size is null, not a whole number"),
        ({"hidden_size": 64.5}, "hidden_size is 64.5, not a whole number"),
        ({"hidden_size": 10**30}, "hidden_size is a number of 100 bits"),
        ({"num_hidden_layers": 10**9}, "1,000,000,000 layers"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is"),
        ({"eos_token_id": {}}, "eos_token_id is an object"),
        ({"num_attention_heads": 0}, "no attention heads"),
        ({"rope_parameters": "default"}, 'rope_parameters is "default", not an object'),
        ({"num_key_value_heads": 3}, "cannot share"),
    ],
)
def test_configurations_it_cannot_compute_are_refused(folder, facts, told):
    change_config(folder, **facts)
    with pytest.raises(CheckpointError, match=told):
        read_config(folder)


@pytest.mark.parametrize("scaling", [{"rope_type": "default"}, {"type": "default"}])
def test_rotary_positions_that_are_not_scaled_may_say_so(folder, scaling):
    before = read_config(folder)
    change_config(folder, rope_scaling=scaling)
    assert read_config(folder) == before


WRONG = [
    ("rope_scaling", {"rope_type": "default", "factor": 4.0}),
    ("rope_scaling", {"rope_type": "yarn", "rope_theta": 500000.0}),
    ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
    ("rope_parameters", {"full_attention": {"rope_type": "default"}}),
    ("rope_interleaved", True),
    ("no_rope_layers", [0, 1, 0]),
    ("partial_rotary_factor", 0.5),
    ("partial_rotary_factor", 0),
    ("partial_rotary_factor", True),
    ("num_experts", 8),
    ("num_experts_per_tok", 2),
    ("n_routed_experts", 64),
    ("moe_intermediate_size", 512),
    ("use_sliding_window", True),
    ("sliding_window", 4096),
    ("layer_types", ["full_attention", "sliding_attention", "full_attention"]),
    ("attention_chunk_size", 8192),
    ("block_size", 4),
    ("is_causal", True),
    ("use_bidirectional_attention", False),
    ("attention_bias", True),
    ("mlp_bias", True),
    ("include_qkv_bias", True),
    ("attention_out_bias", True),
    ("use_qk_norm", True),
    ("qk_layernorm", True),
    ("attention_layer_norm", True),
    ("layer_norm_eps", 0),
    ("input_emb_norm", True),
    ("alibi", True),
    ("clip_qkv", 0.0),
    ("multi_query_attention", True),
    ("scale_logits", True),
    ("final_logit_softcapping", 30.0),
    ("embedding_multiplier", 12.0),
    ("kv_lora_rank", 512),
    ("hidden_act", "gelu"),
    ("activation_type", "gelu"),
    ("layer_norm_type", "default"),
    ("block_type", "sequential"),
    ("rope", False),
    ("quantization_config", {"bits": 4}),
]


@BOTH
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_that_is_not_computed_is_refused_by_its_name_in_every_layout(
    family, name, value, tmp_path
):
    folder = copy_config(family, tmp_path)
    change_config(folder, **{name: value})
    with pytest.raises(CheckpointError, match=name) as caught:
        read_config(folder)
    assert str(folder) in caught.value.sentence


@BOTH
def test_what_is_off_or_a_default_changes_nothing(family, tmp_path):
    """Such fields are what converters and newer transformers leave in a file."""
    folder = copy_config(family, tmp_path)
    before = read_config(folder)
    off = [name for name, value in WRONG if value is True or (type(value) is int and value)]
    for said in (None, False):
        change_config(folder, **dict.fromkeys(off, said))
        assert read_config(folder) == before
    change_config(
        folder,
        num_experts=0,
        partial_rotary_factor=1.0,
        rope_scaling={"rope_type": "default", "type": "default"},
        use_sliding_window=False,
        sliding_window=4096,
        max_window_layers=28,
        layer_types=["full_attention"] * 3,
        chunk_size_feed_forward=0,
        quantization_config={},
        attention_dropout=0.1,
    )
    assert read_config(folder) == before


@BOTH
def test_the_base_of_rotary_positions_is_read_where_newer_files_have_it(family, tmp_path):
    folder = copy_config(family, tmp_path)
    before = read_config(folder)
    table = {"rope_type": "default", "rope_theta": 500000.0}
    change_config(folder, rope_parameters=table)
    assert read_config(folder) == before
    change_config(folder, rope_theta=None, rope_parameters={**table, "rope_theta": 10000.0})
    assert read_config(folder).rope_theta == 10000.0
    change_config(folder, rope_theta=500000.0)
    with pytest.raises(CheckpointError, match=r"rope_theta twice, 10000\.0 and 500000\.0"):
        read_config(folder)


@BOTH
def test_numbers_that_are_none_are_told(family, tmp_path):
    folder = copy_config(family, tmp_path)
    text = (folder / "config.json").read_text()
    for number, told in (("1e400", "out of range"), ("NaN", "NaN"), ('"wide"', "rope_theta is")):
        (folder / "config.json").write_text(text.replace("500000.0", number))
        with pytest.raises(CheckpointError, match=told):
            read_config(folder)
    (folder / "config.json").write_text(text.replace('"vocab_size": 320', '"vocab_size": 1e400'))
    if family == "illada":  # the other layout reads embedding_size
        with pytest.raises(CheckpointError, match="out of range"):
            read_config(folder)


@BOTH
def test_an_export_of_either_layout_is_read_back(family, tmp_path):
    config = read_config(FIXTURES / f"{family}-tiny")
    (tmp_path / "config.json").write_text(json.dumps(config_facts(config, family, "float32")))
    assert read_config(tmp_path) == config
