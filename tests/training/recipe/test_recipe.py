"""Recipes are strict, say what was meant, and survive being written and read."""

import tomllib
from datetime import date
from typing import get_args, get_type_hints

import pytest

from illada_core.errors import UsageError
from illada_core.model.attention import BACKENDS
from illada_core.training.recipe.files import (
    differing_keys,
    find_recipe,
    load_recipe,
    packaged_recipes,
    recipe_from,
    to_toml,
)
from illada_core.training.recipe.keys import RunKeys, flat, may_change

TABLES = {
    "model": {
        "layers": 2,
        "width": 8,
        "heads": 2,
        "kv_heads": 1,
        "ffn_size": 16,
        "max_length": 32,
    },
    "batch": {"rows": 4},
    "optimizer": {"peak_lr": 1e-3},
    "schedule": {"warmup_tokens": 10, "final_lr": 1e-4, "decay_share": 0.2},
    "run": {"total_tokens": 1000},
}


def with_key(table, item, value):
    return {**TABLES, table: {**TABLES.get(table, {}), item: value}}


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_packaged_recipes_survive_being_written_and_read(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe_from(tomllib.loads(to_toml(recipe)), "printed") == recipe


def test_the_8b_recipe_has_the_papers_values():
    values = flat(load_recipe(find_recipe("8b")))
    assert values["optimizer.peak_lr"] == 2e-4
    assert values["optimizer.weight_decay"] == 0.1
    assert values["schedule.final_lr"] == 5e-6
    assert values["schedule.decay"] == "cosine"
    assert values["schedule.plateau"] is True
    assert values["model.max_length"] == 8192
    assert values["objective.split_probability"] == 0.3
    assert values["run.total_tokens"] == 12 * 10**12


@pytest.mark.parametrize(
    ("table", "item", "value", "sentence"),
    [
        ("batch", "row", 4, "unknown key batch.row"),
        ("batsh", "rows", 4, r"unknown table \[batsh\]"),
        ("batch", "rows", "4", 'batch.rows must be a whole number, not "4"'),
        ("batch", "rows", True, "batch.rows must be a whole number, not true"),
        ("batch", "rows", 0.5, "batch.rows must be a whole number, not 0.5"),
        ("batch", "rows", 0, "batch.rows must be at least 1"),
        ("model", "tied", 1, "model.tied must be true or false"),
        ("parallel", "timeout_s", 1e300, "parallel.timeout_s must be at least 1 and at most 86400"),
        ("plan", "write_gb_per_s", 1e-300, "plan.write_gb_per_s must be at least 0.001"),
        ("model", "heads", 3, "model.width is no multiple of model.heads"),
        ("optimizer", "peak_lr", "fast", "optimizer.peak_lr must be a number"),
        ("optimizer", "peak_lr", float("nan"), "optimizer.peak_lr must be finite"),
        ("optimizer", "peak_lr", -1.0, "optimizer.peak_lr must be finite and at least 0"),
        ("objective", "masking", "bernouli", 'must be one of "bernoulli", "fixed-count"'),
        ("objective", "epsilon", 0.0, "objective.epsilon must lie between 0 and 1"),
        ("objective", "cart_p", 1.0, "objective.cart_p must lie between 0 and 1"),
        ("schedule", "anneal_tokens", 5, "schedule.anneal_tokens needs model.adapt"),
        ("run", "epochs", 1.0, "give one of run.total_tokens and run.epochs"),
        ("schedule", "decay_start_tokens", 5, "give one of schedule.decay_start_tokens"),
        ("schedule", "plateau", True, "schedule.plateau needs"),
        ("schedule", "plateau_windows", 0, "schedule.plateau_windows must be at least 1"),
        ("run", "seed", date(1979, 5, 27), 'run.seed must be a whole number, not "1979-05-27"'),
        ("run", "seed", [date(1979, 5, 27)], "run.seed must be a whole number, not"),
        ("run", "attention", "fast", 'run.attention must be one of "auto", "varlen"'),
        ("run", "device", "tpu", 'run.device must be auto, cpu, cuda or cuda:N, not "tpu"'),
        ("run", "device", "cuda:x", "run.device must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_wrong_keys_types_and_values_are_usage_errors(table, item, value, sentence):
    with pytest.raises(UsageError, match=sentence):
        recipe_from(with_key(table, item, value), "r.toml")


def test_recipes_know_every_attention_backend():
    assert get_args(get_type_hints(RunKeys)["attention"]) == ("auto", *BACKENDS)


@pytest.mark.parametrize(("before", "now"), [("true", "full"), ("false", "none")])
def test_a_recipe_may_say_recompute_as_it_was_said_before(tmp_path, before, now):
    asked = load_recipe(find_recipe("8b"), [f"run.recompute={before}"])
    assert asked.run.recompute == now
    assert f'recompute = "{now}"' in to_toml(asked)


@pytest.mark.parametrize(
    ("table", "item", "meant"),
    [("batch", "row", "batch.rows"), ("batsh", "rows", "batch"), ("run", "tokens", "run.")],
)
def test_unknown_keys_say_what_was_meant(table, item, meant):
    with pytest.raises(UsageError) as caught:
        recipe_from(with_key(table, item, 4), "r.toml")
    assert meant in caught.value.hint


def test_missing_keys_are_named():
    with pytest.raises(UsageError, match=r"missing optimizer\.peak_lr"):
        recipe_from({**TABLES, "optimizer": {}}, "r.toml")


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ("optimizer.peak_lr=5e-4", "optimizer.peak_lr", 5e-4),
        ("optimizer.peak_lr = 1", "optimizer.peak_lr", 1.0),
        ("run.total_tokens=1e9", "run.total_tokens", 10**9),
        ("schedule.decay=linear", "schedule.decay", "linear"),
        ('schedule.decay="linear"', "schedule.decay", "linear"),
        ("data.path=corpus=1", "data.path", "corpus=1"),
        ("log.tensorboard=true", "log.tensorboard", True),
    ],
)
def test_set_takes_toml_values_and_bare_words(tmp_path, change, name, value):
    path = tmp_path / "r.toml"
    path.write_text(to_toml(recipe_from(TABLES, "tables")))
    assert flat(load_recipe(path, [change]))[name] == value


@pytest.mark.parametrize("change", ["run.seed", "seed=1", "run.sed=1", "run.seed=x"])
def test_wrong_changes_blame_set(tmp_path, change):
    path = tmp_path / "r.toml"
    path.write_text(to_toml(recipe_from(TABLES, "tables")))
    with pytest.raises(UsageError, match=r"^--set"):
        load_recipe(path, [change])


def test_a_missing_recipe_names_the_packaged_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file: 9b") as caught:
        find_recipe("9b")
    assert "8b" in caught.value.hint
    (tmp_path / "8b").write_text("")
    assert find_recipe("8b").read_text() == ""


def test_broken_toml_and_broken_text_are_usage_errors(tmp_path):
    for content in (b"[model\n", b"\xff\xfe"):
        (tmp_path / "r.toml").write_bytes(content)
        with pytest.raises(UsageError, match="not valid TOML"):
            load_recipe(tmp_path / "r.toml")


def test_only_keys_that_keep_the_losses_may_change():
    before = recipe_from(TABLES, "before")
    longer = recipe_from(with_key("run", "total_tokens", 2000), "now")
    hotter = recipe_from(with_key("optimizer", "peak_lr", 2e-3), "now")
    assert differing_keys(before, longer) == []
    assert differing_keys(before, hotter) == ["optimizer.peak_lr"]
    assert not {name for name in may_change() if name.startswith(("model.", "objective."))}
