"""Adapters: the base never changes, they learn, are saved, taken up again and merged."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from illada_core.errors import CheckpointError, UsageError
from illada_core.model.attention import Segments
from illada_core.model.conversion import Asked, convert, plan_conversion
from illada_core.model.finding import find_model, newest_checkpoint
from illada_core.model.weights import load_model
from illada_core.training.events import Sampled
from illada_core.training.lora import merged_weight
from illada_core.training.recipe.adapters import adapter_count
from illada_core.training.recipe.keys import LoraKeys
from illada_core.training.recipe.plan import plan_run
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from tests.training.test_loop import CPU, losses, run_training
from tests.training.tiny import tiny_recipe, write_conversations, write_packed

WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def needs_peft():
    pytest.importorskip("peft")


@pytest.fixture
def adapting(tmp_path):
    """Return the function that makes a recipe with adapters on a small base, with changes."""
    packed = write_packed(tmp_path / "chats", write=write_conversations)
    run_training(tiny_recipe(packed, "run.total_tokens=512"), tmp_path / "base")

    def recipe(*changes):
        sizes = (
            f"model.{name}=0"
            for name in ("layers", "width", "heads", "kv_heads", "ffn_size", "max_length")
        )
        keys = ("lora.rank=4", "objective.mask=response", f"model.ckpt={tmp_path / 'base'}")
        return tiny_recipe(packed, *sizes, *keys, *changes)

    return recipe


def base_weights(tmp_path):
    folder = find_model(tmp_path / "base")
    return load_file(folder / WEIGHTS)


def test_fresh_adapters_leave_every_output_as_it_is(adapting, tmp_path):
    setup = prepare(adapting())
    with open_session(setup, tmp_path / "run", CPU, fresh=False) as session:
        base = load_model(find_model(tmp_path / "base"))
        ids_T, ends = torch.arange(6, 30), (10, 24)
        segments = Segments.of(ends, CPU.device)
        assert torch.equal(session.model(ids_T, segments), base(ids_T, segments))
        trained = {name for name, each in session.model.named_parameters() if each.requires_grad}
        assert trained
        assert all(".lora_" in name for name in trained)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_is_frozen_in_the_compute_dtype_and_adapters_are_float32(
    adapting, tmp_path, dtype
):
    setup = prepare(adapting(f"run.compute_dtype={dtype}"))
    with open_session(setup, tmp_path / "run", CPU, fresh=False) as session:
        for name, parameter in session.model.named_parameters():
            expected = torch.float32 if ".lora_" in name else getattr(torch, dtype)
            assert parameter.dtype == expected, name
            assert parameter.requires_grad == (".lora_" in name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop_after", [2, 7])
def test_resume_is_exact(adapting, tmp_path, dtype, stop_after):
    asked = adapting(f"run.compute_dtype={dtype}", "run.total_tokens=1280")
    run_training(asked, tmp_path / "whole")
    run_training(asked, tmp_path / "parts", stop_after)
    run_training(asked, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    models = [tmp_path / name / "model" / WEIGHTS for name in ("whole", "parts")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_checkpoints_hold_adapters_alone_and_the_export_has_them_merged(adapting, tmp_path):
    run = tmp_path / "run"
    events = run_training(adapting("validation.sample_every=5"), run)
    assert any(isinstance(event, Sampled) for event in events)
    checkpoint = newest_checkpoint(run)
    assert {path.name for path in checkpoint.iterdir()} == {
        "adapters.safetensors",
        "optimizer.safetensors",
        "state.json",
    }
    adapters = load_file(checkpoint / "adapters.safetensors")
    base, merged = base_weights(tmp_path), load_file(run / "model" / WEIGHTS)
    name = "model.layers.1.mlp.down_proj.weight"
    factors = [adapters[f"layers.1.ffn.down.lora_{factor}.weight"] for factor in "BA"]
    expected = base[name] + 2.0 * factors[0] @ factors[1]  # alpha is twice the rank
    torch.testing.assert_close(merged[name], expected)
    assert not torch.equal(merged[name], base[name])
    kept = ("model.embed_tokens.weight", "model.norm.weight")
    assert all(torch.equal(merged[each], base[each]) for each in kept)


def test_the_merged_model_computes_what_was_trained(adapting, tmp_path):
    run = tmp_path / "run"
    run_training(adapting(), run)
    with open_session(prepare(adapting()), run, CPU, fresh=False) as session:
        ids_T, segments = torch.arange(6, 30), Segments.of((24,), CPU.device)
        trained_TC = session.model(ids_T, segments)
        for name, weight in load_model(run / "model").state_dict().items():
            assert torch.equal(merged_weight(session.model, name), weight)
    torch.testing.assert_close(load_model(run / "model")(ids_T, segments), trained_TC)


def test_a_run_is_served_by_its_export_once_it_has_ended(adapting, tmp_path):
    run = tmp_path / "run"
    run_training(adapting(), run, stop_after=2)
    for find in (lambda: find_model(str(run)), lambda: find_model(run)):
        with pytest.raises(CheckpointError, match="has only adapters so far"):
            find()
    run_training(adapting(), run)
    assert find_model(str(run)) == find_model(run) == run / "model"


def test_another_base_is_refused(adapting, tmp_path):
    run_training(adapting(), tmp_path / "run", stop_after=2)
    longer = tiny_recipe(tmp_path / "chats", "run.total_tokens=640", "schedule.decay_share=0.2")
    run_training(longer, tmp_path / "base", fresh=True)
    with pytest.raises(UsageError, match="adapters of this run belong to has changed"):
        run_training(adapting(), tmp_path / "run")


def test_the_seed_decides_the_adapters(adapting, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_training(adapting(f"run.seed={seed}", "run.total_tokens=512"), tmp_path / name)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


def test_adapters_need_a_base(adapting):
    bare = adapting()
    with pytest.raises(UsageError, match=r"lora\.rank needs a base"):
        prepare(replace(bare, model=replace(bare.model, ckpt="")))


@pytest.mark.parametrize("targets", ["all", "attention", "ffn"])
def test_the_plan_counts_what_learns(adapting, tmp_path, targets):
    setup = prepare(adapting(f"lora.targets={targets}"))
    plan = plan_run(setup.recipe, setup.config, 1000, 32.0)
    with open_session(setup, tmp_path / "run", CPU, fresh=False) as session:
        learning = [each.numel() for each in session.model.parameters() if each.requires_grad]
    assert plan.trained_parameters == sum(learning)
    assert plan.trained_parameters == adapter_count(setup.config, LoraKeys(rank=4, targets=targets))
    whole = plan_run(replace(setup.recipe, lora=LoraKeys()), setup.config, 1000, 32.0)
    assert plan.flops_per_token < whole.flops_per_token
    assert sum(plan.memory_bytes.values()) < sum(whole.memory_bytes.values())


def test_peft_reads_the_adapters_and_makes_the_merged_model_of_them(adapting, tmp_path):
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    recipe = adapting("run.compute_dtype=float32")
    run_training(recipe, tmp_path / "run")
    config = prepare(recipe).config
    shape = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_size,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied,
    )
    ids_1T = torch.arange(6, 30)[None]
    logits = []
    for folder, adapter in (
        (tmp_path / "base", tmp_path / "run" / "adapter"),
        (tmp_path / "run", None),
    ):
        model = transformers.LlamaForCausalLM(shape)
        weights = load_file(find_model(folder) / WEIGHTS)
        left = model.load_state_dict(weights, strict=False)
        assert not left.unexpected_keys
        assert set(left.missing_keys) <= {"lm_head.weight"}
        before = model(ids_1T).logits.detach()
        if adapter is not None:
            model = peft.PeftModel.from_pretrained(model, adapter)
        logits.append((before, model(ids_1T).logits.detach()))
    (base, adapted), (merged, _) = logits
    assert not torch.allclose(base, merged, atol=1e-4)
    torch.testing.assert_close(adapted, merged, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_of_a_run_merged_into_its_base_are_its_model(adapting, tmp_path, dtype):
    run_training(adapting(f"run.compute_dtype={dtype}"), tmp_path / "run")
    asked = Asked(dtype=dtype, adapters=tmp_path / "run" / "adapter")
    if dtype == "bfloat16":  # a run keeps its base in the dtype that it computes in
        convert(plan_conversion(tmp_path / "base", Asked(dtype=dtype)), tmp_path / "rounded")
    base = tmp_path / ("base" if dtype == "float32" else "rounded")
    convert(plan_conversion(base, asked), tmp_path / "merged")
    merged, trained = (
        load_file(find_model(tmp_path / name) / WEIGHTS) for name in ("merged", "run")
    )
    assert merged.keys() == trained.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(merged[name], weight, rtol=1e-6, atol=1e-7)


def test_other_adapters_are_refused_by_name(adapting, tmp_path):
    run_training(adapting(), tmp_path / "run")
    folder = tmp_path / "run" / "adapter"
    facts = json.loads((folder / "adapter_config.json").read_text())
    asked = Asked(adapters=folder)
    for field, value in (("use_dora", True), ("rank_pattern", {"q_proj": 2}), ("bias", "all")):
        (folder / "adapter_config.json").write_text(json.dumps({**facts, field: value}))
        with pytest.raises(UsageError, match=f"not computed here: {field}"):
            plan_conversion(tmp_path / "base", asked)
    for field, value in (("r", 0), ("r", "4"), ("lora_alpha", None)):
        (folder / "adapter_config.json").write_text(json.dumps({**facts, field: value}))
        with pytest.raises(CheckpointError, match=field):
            plan_conversion(tmp_path / "base", asked)
    (folder / "adapter_config.json").write_text(json.dumps(facts))
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    first = min(tensors)
    for changed, told in (
        ({first: tensors[first][:, :3].contiguous()}, "has another shape"),
        ({"base_model.model.lm_head.lora_A.weight": tensors[first].clone()}, "fits no weight"),
        ({"base_model.model.score.weight": tensors[first].clone()}, "fits no weight"),
    ):
        save_file({**tensors, **changed}, file)
        with pytest.raises(CheckpointError, match=told):
            plan_conversion(tmp_path / "base", asked)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError):
        plan_conversion(tmp_path / "base", asked)
    file.unlink()
    with pytest.raises(CheckpointError):
        plan_conversion(tmp_path / "base", asked)
