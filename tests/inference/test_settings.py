"""Settings stand once: options, presets, /set and keywords take the same names and values."""

import pytest

from illada_cli.settings import setting_parameters, settle
from illada_core.errors import UsageError
from illada_core.inference.presets import load_preset, packaged_presets
from illada_core.inference.settings import (
    DEFAULTS,
    Settings,
    change_settings,
    check_setting,
    parse_setting,
)


def test_every_packaged_preset_is_read_and_options_win():
    presets = packaged_presets()
    assert {"gsm8k-instruct", "math-instruct", "mmlu-instruct", "humaneval-base"} <= presets.keys()
    for name in presets:
        assert Settings(**load_preset(name))
    paper = Settings(**load_preset("gsm8k-instruct"))
    assert (paper.max_new_tokens, paper.block_length) == (2048, 32)
    assert (paper.end_thinking_boost, paper.end_thinking_power) == (100.0, 3.0)
    assert change_settings(paper, {"block_length": 8}).block_length == 8
    assert load_preset("humaneval-base")["canvas"] == "fixed"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[generate]\nblock_lenght = 3", "no setting block_lenght"),
        ("[generate]\nblock_length = 'a'", "block_length is a whole number"),
        ("[generate]\nblock_length = 0", "block_length must be at least 1"),
        ("[generate]\ncanvas = 'fixd'", "canvas is one of variable, fixed"),
        ("[generate]\ntop_p = 1.5", "top_p must be at most 1"),
        ("[generate]\ncfg = inf", "cfg is a number, not inf"),
        ("[generate]\nstop = [1]", "stop is a list of strings"),
        ("[generate]\nstop = ['']", "not empty"),
        ("[generate]\nthreshold = 0.9\nfactor = 1", "threshold and factor are two commit rules"),
        ("[pretrain]", "must hold one table"),
        ("x", "not valid TOML"),
        ("[[[", "not valid TOML"),
    ],
)
def test_wrong_presets_are_refused(text, sentence, tmp_path):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        load_preset(str(tmp_path / "wrong.toml"))


def test_a_commit_rule_given_replaces_that_of_the_preset_and_two_are_refused(tmp_path):
    (tmp_path / "fast.toml").write_text("[generate]\nthreshold = 0.9")
    settings = settle({"preset": str(tmp_path / "fast.toml"), "factor": 1.0, "threshold": None})
    assert (settings.commit_rule, settings.factor, settings.threshold) == ("factor", 1.0, None)
    with pytest.raises(UsageError, match="--threshold and --factor"):
        settle({"preset": None, "threshold": 0.9, "factor": 1.0})


def test_every_setting_is_an_option_a_preset_key_and_typed_by_the_same_name():
    assert [each.name for each in setting_parameters()] == ["preset", *vars(DEFAULTS)]
    for name, value in vars(DEFAULTS).items():
        typed = {None: "none", (): ""}.get(value, str(value))
        assert parse_setting(name, typed) == value
        assert check_setting(name, value) == value
        assert change_settings(DEFAULTS, {name: value}) == DEFAULTS


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"temprature": 1.0}, "no setting temprature"),
        ({"temperature": "hot"}, "temperature is a number"),
        ({"temperature": None}, "temperature is a number"),
        ({"max_new_tokens": True}, "max_new_tokens is a whole number"),
        ({"stop": "a"}, "stop is a list of strings"),
        ({"stop_ids": [1.5]}, "stop_ids is a list of whole numbers"),
        ({"threshold": 0.5, "factor": 1.0}, "are two commit rules"),
        ({"end_thinking": "\udcff"}, "no characters"),
    ],
)
def test_settings_that_cannot_be_are_refused_wherever_they_come_from(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        change_settings(DEFAULTS, changes)
