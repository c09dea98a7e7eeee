import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import illada_core
from illada_core.errors import CheckpointError, UsageError
from illada_core.model.config import ModelConfig, parameter_count
from illada_core.model.configfile import choose_mask_id, config_facts, read_config
from illada_core.model.families.illada import ILLADA_8B
from illada_core.model.families.llada import LLADA_8B
from illada_core.model.initial import new_model
from illada_core.model.layouts import doubled_head, stored_names
from illada_core.model.transformer import Transformer
from illada_core.model.weights import load_model, save_model

REPO = Path(__file__).resolve().parents[2]
FIXTURES = REPO / "tests" / "fixtures"
BOTH = pytest.mark.parametrize("family", ["illada", "llada"])


def stored(folder):
    """Return every tensor of a folder, read the obvious way."""
    tensors = {}
    for path in folder.glob("model*.safetensors"):
        tensors |= load_file(path)
    return tensors


@pytest.fixture
def folder(tmp_path):
    """A copy of the iLLaDA fixture to damage: one file, tied head stored twice."""
    return Path(shutil.copytree(FIXTURES / "illada-tiny", tmp_path / "model"))


def change_config(folder, **facts):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@BOTH
def test_logits_equal_the_reference(family):
    model = illada_core.load_model(FIXTURES / f"{family}-tiny")
    expected = load_file(FIXTURES / f"{family}-tiny/expected.safetensors")
    ids_T = expected["logits.ids"]
    with torch.inference_mode():
        logits = model.logits_at(ids_T, (len(ids_T),), torch.arange(len(ids_T)))
    torch.testing.assert_close(logits, expected["logits.fp32"], atol=1e-5, rtol=1e-4)


def test_loading_draws_no_weights_that_it_throws_away():
    """Drawing them on the meta device imports torch's compiler: a second and a half."""
    script = (
        "import sys; from illada_core.model.weights import load_model; load_model(sys.argv[1]);"
        "assert 'torch._dynamo' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(FIXTURES / "illada-tiny")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@BOTH
def test_an_export_holds_the_bytes_that_were_read(family, tmp_path):
    source = FIXTURES / f"{family}-tiny"
    save_model(load_model(source), tmp_path / "out", layout=family, shard_bytes=300_000)
    before, after = stored(source), stored(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 1
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == before.keys()
    assert read_config(tmp_path / "out") == read_config(source)


@BOTH
def test_an_exported_config_says_what_the_released_one_says(family):
    released = json.loads((FIXTURES / f"{family}-tiny/config.json").read_text())
    ours = config_facts(read_config(FIXTURES / f"{family}-tiny"), family, "float32")
    derived = {"transformers_version", "mlp_ratio", "auto_map"}
    assert "auto_map" not in ours  # it would name files of code that an export does not hold
    assert {key: ours.get(key) for key in released if key not in derived} == {
        key: value for key, value in released.items() if key not in derived
    }


@BOTH
def test_a_model_crosses_to_the_other_layout_and_back(family, tmp_path):
    other = {"illada": "llada", "llada": "illada"}[family]
    model = load_model(FIXTURES / f"{family}-tiny")
    save_model(model, tmp_path / "there", layout=other)
    crossed = load_model(tmp_path / "there")
    assert replace(crossed.config, family=family) == model.config
    ids_T = torch.arange(50)
    assert torch.equal(crossed.logits_at(ids_T, (50,), ids_T), model.logits_at(ids_T, (50,), ids_T))


@pytest.mark.parametrize("config", [ILLADA_8B, LLADA_8B])
def test_full_size_layouts_have_291_keys(config):
    keys = set(stored_names(config, config.family).values())
    keys |= {doubled_head(config, config.family)} - {None}
    assert len(keys) == 291


def test_a_trained_model_describes_itself(tmp_path):
    config = ModelConfig(
        vocab_size=300,
        width=32,
        layers=2,
        heads=2,
        kv_heads=1,
        head_size=24,
        ffn_size=64,
        max_length=128,
        rope_theta=1e4,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        mask_id=5,
        initializer_range=0.02,
    )
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    model = new_model(config, seed=3)
    for _ in range(2):  # the second export replaces the first
        save_model(model, tmp_path / "run/model", tokenizer_folder=tmp_path, dtype="bfloat16")
    loaded = load_model(tmp_path / "run")
    assert loaded.config == config
    assert loaded.compute_dtype == loaded.embedding.weight.dtype == torch.bfloat16
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"model"}
    assert (tmp_path / "run/model/chat_template.jinja").exists()
    masters = load_model(tmp_path / "run", dtype="float32", compute_dtype="bfloat16")
    assert masters.embedding.weight.dtype == torch.float32
    assert masters.compute_dtype == torch.bfloat16


def test_nothing_but_an_export_is_replaced(tmp_path):
    model = load_model(FIXTURES / "illada-tiny")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        save_model(model, tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        save_model(model, tmp_path / "thesis.tex")


def test_a_failed_export_leaves_the_earlier_one(tmp_path):
    source = FIXTURES / "llada-tiny"
    save_model(load_model(source), tmp_path / "model", layout="llada")
    code = (
        "import resource, signal, sys\n"
        "from illada_core.model.weights import load_model, save_model\n"
        f"model = load_model({str(source)!r})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))\n"
        f"save_model(model, {str(tmp_path / 'model')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert read_config(tmp_path / "model").family == "llada"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_loading_holds_the_weights_and_one_file(tmp_path):
    config = ModelConfig(
        vocab_size=16_000,
        width=512,
        layers=8,
        heads=8,
        kv_heads=8,
        head_size=64,
        ffn_size=1024,
        max_length=64,
    )
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    for weight in model.parameters():
        torch.nn.init.constant_(weight, 0.5)
    save_model(model, tmp_path / "model", shard_bytes=34_000_000)
    code = (
        "import sys; from pathlib import Path\n"
        "from illada_core.model.weights import load_model\n"
        "status = Path('/proc/self/status')\n"
        "peak = lambda: 1024 * int(status.read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak(); model = load_model(sys.argv[1]); print(peak() - before)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    weights = 4 * parameter_count(config)
    largest = max(path.stat().st_size for path in (tmp_path / "model").glob("*.safetensors"))
    assert len(list((tmp_path / "model").glob("*.safetensors"))) >= 4
    assert weights < peak < weights + largest + 12_000_000


def test_every_key_is_accounted_for(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)
    del tensors["model.norm.weight"]
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(160, 63)
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(160, 64, dtype=torch.int8)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert "1 missing (model.norm.weight)" in str(caught.value)
    assert "1 unknown (model.layers.9.mlp.up_proj.weight)" in str(caught.value)
    assert "2 misshapen (model.layers.0.mlp.up_proj.weight, I8" in str(caught.value)
    assert "F32 [160, 63] for [160, 64]" in str(caught.value)


def test_many_wrong_keys_are_few_names_and_a_count(folder):
    save_file({"model.norm.weight": torch.ones(64)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"28 missing \(.*, .*, .* and 25 more\)"):
        load_model(folder)


def test_a_key_in_two_shards_is_an_error(folder):
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00001.safetensors")
    with pytest.raises(CheckpointError, match="30 duplicate"):
        load_model(folder)


def test_the_doubled_head_must_equal_the_embedding(folder):
    tensors = load_file(folder / "model.safetensors")
    once = {key: tensor for key, tensor in tensors.items() if key != "lm_head.weight"}
    save_file(once, folder / "model.safetensors")
    assert load_model(folder).output is None
    for key in ("lm_head.weight", "model.embed_tokens.weight"):
        tensors[key][0] = torch.nan  # equal bits, though not equal numbers
    save_file(tensors, folder / "model.safetensors")
    load_model(folder)
    tensors["lm_head.weight"][319, 63] += 1e-3
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs from model.embed_tokens"):
        load_model(folder)


def test_the_two_ff_outs_of_llada_stay_apart():
    names = stored_names(read_config(FIXTURES / "llada-tiny"), "llada")
    assert names["output.weight"] == "model.transformer.ff_out.weight"
    assert names["layers.2.ffn.down.weight"] == "model.transformer.blocks.2.ff_out.weight"
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("kept_bytes", [0, 5, 200, 100_000, -1])
def test_a_truncated_file_is_told(folder, kept_bytes):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match="damaged or was not written to its end"):
        load_model(folder)


def test_a_file_that_is_none_is_told(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        load_model(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = Path(shutil.copytree(FIXTURES / "llada-tiny", tmp_path / "model"))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00002.safetensors"):
        load_model(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="15 missing"):
        load_model(folder)


def test_shards_load_without_an_index(tmp_path):
    folder = Path(shutil.copytree(FIXTURES / "llada-tiny", tmp_path / "model"))
    (folder / "model.safetensors.index.json").unlink()
    assert load_model(folder).output is not None


def test_pickles_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle \(pytorch_model.bin\)"):
        load_model(folder)


def test_paths_that_hold_no_model_are_told(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no such model, checkpoint or run"):
        load_model(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="is a file"):
        load_model(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no model.safetensors"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"neither a model \(no config.json\)"):
        load_model(folder)
    with pytest.raises(UsageError, match="unknown dtype 'fp8'"):
        load_model(FIXTURES / "illada-tiny", dtype="fp8")


def test_a_head_of_which_nothing_is_said_is_tied(folder):
    path = folder / "config.json"
    facts = json.loads(path.read_text())
    del facts["tie_word_embeddings"]
    path.write_text(json.dumps(facts))
    assert read_config(folder).tied
    assert load_model(folder).config.tied


def test_broken_configuration_files_are_told(folder):
    path = folder / "config.json"
    facts = json.loads(path.read_text())
    del facts["rms_norm_eps"]
    for text, told in [
        (json.dumps(facts), "does not say rms_norm_eps"),
        ("{", "not valid JSON"),
        ("[]", "holds no JSON object"),
    ]:
        path.write_text(text)
        with pytest.raises(CheckpointError, match=told):
            read_config(folder)


def test_the_mask_id_is_asked_found_or_the_familys(folder):
    config = read_config(folder)
    assert choose_mask_id(config, None, None) == 5
    assert choose_mask_id(replace(config, mask_id=7), None, None) == 7
    assert choose_mask_id(replace(config, mask_id=7), None, 8) == 8
    assert choose_mask_id(config, 9, 8) == 9
    with pytest.raises(UsageError, match="also the model's bos, eos or pad"):
        choose_mask_id(config, 1, None)
    with pytest.raises(CheckpointError, match="outside the model's 320 ids"):
        choose_mask_id(config, None, 320)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("[]", "does not say which rows"),
        ('{"model.norm.weight": {"saved_offsets": [-1]}}', "does not say which rows"),
        ('{"model.norm.weight": {"saved_offsets": []}}', "is not in rows"),
        ('{"model.norm.weight": {"saved_offsets": [0, 8]}}', "is not in rows"),
        ('{"model.norm.weight": {"saved_offsets": [8]}}', "1 duplicate"),
    ],
)
def test_parts_that_make_no_tensor_are_named(folder, said, sentence):
    file = folder / "model.safetensors"
    save_file(load_file(file), file, metadata={"DCP_SHARDING_INFO": said})
    with pytest.raises(CheckpointError, match=sentence):
        load_model(folder)
