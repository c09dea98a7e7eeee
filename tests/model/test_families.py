"""Other families than LLaDA and iLLaDA: what is read, refused and computed of their folders."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from illada_core.errors import CheckpointError, UsageError
from illada_core.model.attention import Segments
from illada_core.model.config import FAMILIES, ModelConfig, RopeScaling
from illada_core.model.configfile import config_facts, read_config
from illada_core.model.families.family import Reading
from illada_core.model.families.table import TABLE
from illada_core.model.initial import new_model
from illada_core.model.transformer import scaled_speeds
from illada_core.model.weights import load_model, save_model

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
TINY = {
    "dream-tiny": ("dream", "full"),
    "qwen2-tiny": ("qwen2", "causal"),
    "smollm2-tiny": ("llama", "causal"),
    "llama3-tiny": ("llama", "causal"),
    "qwen3-tiny": ("qwen3", "causal"),
}
EACH = pytest.mark.parametrize("name", TINY)


@pytest.fixture
def copy(tmp_path):
    """Copy a fixture, to change its files."""
    return lambda name: Path(shutil.copytree(FIXTURES / name, tmp_path / name))


def change_config(folder, **facts):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def expected_logits(name):
    """Return ids and the reference's raw logits of each, by what they are called."""
    tensors = load_file(FIXTURES / name / "expected.safetensors")
    if "logits.ids" in tensors:
        return {"all": (tensors["logits.ids"], tensors["logits.fp32"])}
    listed = json.loads((FIXTURES / name / "expected.json").read_text())["logits"]
    found = {
        called: (torch.tensor(case["ids"]), tensors[case["tensor"]])
        for called, case in listed.items()
        if "tensor" in case
    }
    if "left_padded" in listed:
        case = listed["left_padded"]
        for row, valid in enumerate(("logits.left_padded_row0", "logits.left_padded_row1_valid")):
            kept = torch.tensor(case["attention_mask"][row], dtype=torch.bool)
            found[valid] = (torch.tensor(case["ids"][row])[kept], tensors[valid])
    return found


def raw_logits(model, *segments):
    """Return the logits of all rows of some packed segments, as the head gives them."""
    ends = torch.tensor([len(each) for each in segments]).cumsum(0).tolist()
    with torch.inference_mode():
        return model.head(model(torch.cat(segments), Segments.of(tuple(ends), torch.device("cpu"))))


@EACH
def test_logits_equal_the_reference_alone_and_packed(name):
    model = load_model(FIXTURES / name)
    cases = list(expected_logits(name).values())
    for ids_T, logits_TV in cases:
        torch.testing.assert_close(raw_logits(model, ids_T), logits_TV, atol=1e-4, rtol=1e-4)
    packed_TV = raw_logits(model, *(ids_T for ids_T, _ in cases))
    torch.testing.assert_close(
        packed_TV, torch.cat([each for _, each in cases]), atol=1e-4, rtol=1e-4
    )


@EACH
def test_a_row_of_logits_is_asked_for_by_the_token_it_speaks_of(name):
    """Under the shift row i - 1 of the same segment is read for token i, its own for the first."""
    ids_T, raw_TV = next(iter(expected_logits(name).values()))
    model, size = load_model(FIXTURES / name), len(ids_T)
    about_T = torch.tensor([size + 3, 0, size, 1, size - 1])  # of two equal segments
    with torch.inference_mode():
        logits_MV = model.logits_at(ids_T.repeat(2), (size, 2 * size), about_T)
    rows_M = torch.tensor([2, 0, 0, 0, size - 2])
    torch.testing.assert_close(logits_MV, raw_TV[rows_M], atol=1e-4, rtol=1e-4)
    own = load_model(FIXTURES / name, shift=False)
    with torch.inference_mode():
        logits_MV = own.logits_at(ids_T, (size,), torch.arange(size))
    torch.testing.assert_close(logits_MV, raw_TV, atol=1e-4, rtol=1e-4)


@EACH
def test_a_later_token_is_met_only_where_attention_is_full(name):
    ids_T, _ = next(iter(expected_logits(name).values()))
    changed_T = ids_T.clone()
    changed_T[-1] = (ids_T[-1] + 1) % 90
    for attention in ("full", "causal"):
        model = load_model(FIXTURES / name, attention=attention)
        before, after = raw_logits(model, ids_T)[:-1], raw_logits(model, changed_T)[:-1]
        assert torch.equal(before, after) == (attention == "causal")


@EACH
def test_what_a_folder_is_read_as(name):
    config = read_config(FIXTURES / name)
    family, attention = TINY[name]
    assert (config.family, config.attention, config.shift) == (family, attention, True)
    assert config.qkv_bias == (family in ("dream", "qwen2"))
    assert config.qk_norm == (family == "qwen3")
    assert (config.rope_scaling is not None) == (name == "llama3-tiny")


def test_the_table_has_every_family():
    assert set(TABLE) == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "facts", "told"),
    [
        ("dream-tiny", {"block_size": 32}, "block_size is 32"),
        ("dream-tiny", {"mask_token_id": 151669, "vocab_size": 152064}, "Dream-Reasoner's"),
        ("dream-tiny", {"architectures": ["DreamReasonerModel"]}, "DreamReasonerModel"),
        ("dream-tiny", {"use_sliding_window": True}, "use_sliding_window is true"),
        ("qwen2-tiny", {"mask_token_id": 506}, "what a token attends to and whose token"),
        ("qwen2-tiny", {"auto_map": {"AutoModel": "x.Y"}}, "it holds auto_map"),
        ("qwen2-tiny", {"architectures": ["Qwen2ForDiffusion"]}, "Qwen2ForDiffusion"),
        ("qwen2-tiny", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("qwen2-tiny", {"model_type": "a2d-qwen2"}, "does not tell what a token attends to: "),
        ("qwen2-tiny", {"model_type": "illada-qwen2"}, "does not tell"),
        ("qwen2-tiny", {"illada_attention": "block"}, "attention is full or causal, not 'block'"),
        ("qwen2-tiny", {"illada_shift": "yes"}, "illada_shift is"),
        ("qwen2-tiny", {"num_experts": 60}, "num_experts is 60"),
        ("smollm2-tiny", {"attention_bias": True}, "attention_bias is true"),
        ("smollm2-tiny", {"model_type": "gpt2"}, "the model type is 'gpt2'"),
        ("smollm2-tiny", {"model_type": ["llama"]}, "the model type is"),
        ("smollm2-tiny", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "type 'yarn'"),
        ("llama3-tiny", {"rope_scaling": {"rope_type": "llama3"}}, "does not say factor"),
        ("qwen3-tiny", {"sliding_window": 4096, "use_sliding_window": None}, "sliding_window"),
    ],
)
def test_what_is_not_computed_or_not_told_is_refused(copy, name, facts, told):
    folder = copy(name)
    change_config(folder, **facts)
    with pytest.raises(CheckpointError, match=told):
        read_config(folder)


@pytest.mark.parametrize(
    ("facts", "asked", "reading"),
    [
        ({}, Reading(), ("causal", True)),
        ({}, Reading("full"), ("full", True)),
        ({}, Reading("full", shift=False), ("full", False)),
        ({"mask_token_id": 506}, Reading("full", shift=False), ("full", False)),
        ({"model_type": "a2d-qwen2"}, Reading("full"), ("full", False)),
        (
            {"mask_token_id": 506, "illada_attention": "full", "illada_shift": True},
            Reading(),
            ("full", True),
        ),
        ({"illada_attention": "full", "illada_shift": True}, Reading("causal"), ("causal", True)),
    ],
)
def test_it_is_read_as_asked_else_by_our_keys_else_by_its_type(copy, facts, asked, reading):
    folder = copy("qwen2-tiny")
    change_config(folder, **facts)
    config = read_config(folder, asked)
    assert (config.attention, config.shift) == reading


def test_half_an_answer_is_not_taken_for_the_whole(copy):
    folder = copy("qwen2-tiny")
    change_config(folder, mask_token_id=506)
    with pytest.raises(CheckpointError, match="does not tell whose token a row speaks of") as told:
        read_config(folder, Reading("full"))
    assert told.value.hint == "say it: --shift or --no-shift"


def test_biases_matter(copy):
    folder = copy("qwen2-tiny")
    tensors = load_file(folder / "model.safetensors")
    for key in tensors:
        if key.endswith(".bias"):
            tensors[key].zero_()
    save_file(tensors, folder / "model.safetensors")
    ids_T, logits_TV = expected_logits("qwen2-tiny")["a"]
    assert (raw_logits(load_model(folder), ids_T) - logits_TV).abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (
            "qwen2-tiny",
            lambda tensors: tensors.pop("model.layers.1.self_attn.k_proj.bias"),
            r"1 missing \(model.layers.1.self_attn.k_proj.bias\)",
        ),
        (
            "qwen2-tiny",
            lambda tensors: tensors.update(
                {"model.layers.0.self_attn.q_norm.weight": torch.ones(16)}
            ),
            r"1 unknown \(model.layers.0.self_attn.q_norm.weight\)",
        ),
        (
            "smollm2-tiny",
            lambda tensors: tensors.update(
                {"model.layers.0.self_attn.q_proj.bias": torch.ones(66)}
            ),
            r"1 unknown \(model.layers.0.self_attn.q_proj.bias\)",
        ),
        (
            "smollm2-tiny",
            lambda tensors: tensors.update({"lm_head.weight": torch.ones(512, 66)}),
            "lm_head.weight differs from model.embed_tokens.weight",
        ),
    ],
)
def test_weights_of_another_shape_of_model_are_refused_by_their_keys(copy, name, change, told):
    folder = copy(name)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=told):
        load_model(folder)


def test_a_tied_head_may_be_stored_or_not(copy):
    folder = copy("smollm2-tiny")
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors
    ids_T, logits_TV = expected_logits("smollm2-tiny")["a"]
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    logits = raw_logits(load_model(folder), ids_T)
    torch.testing.assert_close(logits, logits_TV, atol=1e-4, rtol=1e-4)


@EACH
def test_an_export_holds_the_tensors_that_were_read_and_is_read_the_same(name, tmp_path):
    source = FIXTURES / name
    save_model(load_model(source), tmp_path / "out", layout=TINY[name][0])
    before = load_file(source / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert read_config(tmp_path / "out") == read_config(source)


@EACH
@pytest.mark.parametrize("attention", ["full", "causal"])
@pytest.mark.parametrize("shift", [True, False])
def test_an_export_says_how_it_is_to_be_read_or_is_refused(name, attention, shift, tmp_path):
    config = read_config(FIXTURES / name, Reading(attention, shift))
    config = replace(config, mask_id=5)
    if config.family == "dream" and (attention, shift) != ("full", True):
        with pytest.raises(UsageError, match="the dream layout cannot say"):
            config_facts(config, "dream", "float32")
        return
    facts = config_facts(config, config.family, "float32")
    (tmp_path / "config.json").write_text(json.dumps(facts))
    assert read_config(tmp_path) == config
    if attention == "full":  # so that no class reads it as autoregressive
        assert facts["model_type"] not in ("llama", "qwen2", "qwen3")


@pytest.mark.parametrize(
    ("name", "layout", "told"),
    [
        ("qwen2-tiny", "llama", "the llama layout cannot say that the model's qkv_bias is True"),
        ("smollm2-tiny", "qwen2", "the qwen2 layout cannot say that the model's qkv_bias is False"),
        ("qwen3-tiny", "llama", "the llama layout cannot say that the model's qk_norm is True"),
        ("dream-tiny", "illada", "the illada layout cannot say full attention where a row speaks"),
        ("smollm2-tiny", "illada", "the illada layout cannot say causal attention"),
    ],
)
def test_a_layout_that_would_make_another_model_is_refused(name, layout, told, tmp_path):
    with pytest.raises(UsageError, match=told):
        save_model(load_model(FIXTURES / name), tmp_path / "out", layout=layout)
    assert not (tmp_path / "out").exists()


def test_llama_weights_cross_to_the_illada_layout_and_back(tmp_path):
    model = load_model(FIXTURES / "smollm2-tiny", attention="full", shift=False)
    save_model(model, tmp_path / "there", layout="illada")
    there = load_model(tmp_path / "there")
    save_model(there, tmp_path / "back", layout="llama")
    back = load_model(tmp_path / "back")
    assert back.config == replace(model.config, initializer_range=back.config.initializer_range)
    ids_T, _ = expected_logits("smollm2-tiny")["a"]
    assert torch.equal(raw_logits(there, ids_T), raw_logits(model, ids_T))
    assert torch.equal(raw_logits(back, ids_T), raw_logits(model, ids_T))


def test_long_waves_are_slowed_down_as_in_llama_3():
    """Compared with the rule as it is written down, wave by wave."""
    scaling = RopeScaling(factor=8.0, low=1.0, high=4.0, original_length=8192)
    speeds = 1.0 / 500_000.0 ** (torch.arange(0, 128, 2).float() / 128)
    expected = []
    for speed in speeds.tolist():
        wave = 2 * torch.pi / speed
        if wave < 8192 / 4:
            expected.append(speed)
        elif wave > 8192 / 1:
            expected.append(speed / 8)
        else:
            share = (8192 / wave - 1) / (4 - 1)
            expected.append((1 - share) * speed / 8 + share * speed)
    found = scaled_speeds(speeds, scaling)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=0)
    assert len({*expected} & {*speeds.tolist()}) < len(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_weights_of_every_family_have_its_parameters(family):
    sizes = {"vocab_size": 64, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2}
    sizes |= {"head_size": 8, "ffn_size": 48, "max_length": 64, "initializer_range": 0.02}
    shape = {"qkv_bias": family in ("dream", "qwen2"), "qk_norm": family == "qwen3"}
    config = ModelConfig(**sizes, **shape, family=family, pad_id=1)
    weights = new_model(config, seed=1).state_dict()
    biases = [weight for name, weight in weights.items() if name.endswith(".bias")]
    assert len(biases) == (6 if shape["qkv_bias"] else 0)
    assert not any(bias.any() for bias in biases)
    norms = [weight for name, weight in weights.items() if "norm" in name]
    assert len(norms) == 5 + (4 if shape["qk_norm"] else 0)
    assert all((norm == 1).all() for norm in norms)
    if family not in ("illada", "llada"):
        assert 0.018 < weights["layers.1.ffn.down.weight"].std() < 0.022
