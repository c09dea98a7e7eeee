"""Requests, presets and texts of `illada generate`, without a process or a model."""

import itertools
import json
from types import SimpleNamespace

import pytest

from illada_cli.generate.answers import begun, first_stop, stop_finder
from illada_cli.generate.options import COMMIT_RULES, DEFAULTS, Asked, settle
from illada_cli.generate.presets import packaged_presets
from illada_cli.generate.requests import Room, continue_in, gapped_task, infill_ids_task, request_of
from illada_cli.jsonl import JsonLines
from illada_cli.ui import Talk
from illada_core.errors import DataError, UsageError
from illada_core.inference.canvas import Gap

MASK = 5


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ('{"prompt": "a"', "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"text": "a"}', "must hold one of"),
        ('{"prompt": "a", "prompt_ids": [7]}', "prompt and prompt_ids"),
        ('{"prompt": ""}', "the prompt is empty"),
        ('{"prompt": 3}', "prompt must be a string"),
        ('{"prompt_ids": []}', "the prompt is empty"),
        ('{"prompt_ids": [1.5]}', "whole numbers"),
        ('{"prompt_ids": [true]}', "whole numbers"),
        ('{"messages": [{"role": "root", "content": "a"}]}', "has the role 'root'"),
        ('{"messages": "a"}', "must be a list"),
        ("[" * 100_000, "not valid JSON"),
        ('{"prompt": "\\xff"}', "not valid JSON"),
        ('{"prompt": "a", "id": NaN}', "not valid JSON"),
    ],
)
def test_bad_lines_are_named_by_number_or_skipped(bad, sentence, tmp_path, capsys):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'{"prompt": "ok"}\n\n' + bad.encode("latin-1") + b'\n{"prompt": "last"}')
    with pytest.raises(UsageError, match=f"prompts.jsonl, line 3: .*{sentence}"):
        list(JsonLines(str(file), request_of, "stop", Talk()))
    skipping = JsonLines(str(file), request_of, "skip", Talk())
    assert [request.value for request in skipping] == ["ok", "last"]
    assert [request.line for request in skipping] == [1, 4]
    assert "line 3" in capsys.readouterr().err


def room(new_tokens=10, grows=True, context=32, truncate=None):
    return Room(new_tokens, grows, context, truncate, bos=None)


def test_prompts_get_the_room_that_the_context_leaves():
    assert continue_in(range(20), room()).gaps == (Gap(10, grows=True, may_end=True),)
    assert continue_in(range(30), room()).gaps == (Gap(2, grows=True, may_end=True),)
    assert continue_in(range(31), room()).gaps == (Gap(1, grows=True, may_end=True),)
    assert continue_in(range(22), room(grows=False)).gaps == (Gap(10, may_end=True),)
    for length, grows in ((32, True), (23, False)):
        with pytest.raises(DataError, match=f"{length} tokens long"):
            continue_in(range(length), room(grows=grows))


def test_a_canvas_without_room_for_a_prompt_is_refused():
    for truncate in (None, "left"):
        with pytest.raises(DataError, match="leaves no room for a prompt"):
            continue_in([7], room(new_tokens=32, grows=False, truncate=truncate))


def test_truncation_keeps_the_end_of_a_prompt_and_room_for_what_is_wanted():
    task = continue_in(range(100), room(truncate="left"))
    assert task.runs[0] == tuple(range(78, 100))
    assert task.gaps == (Gap(10, grows=True, may_end=True),)
    task = continue_in(range(100), room(new_tokens=1000, truncate="left"))
    assert task.runs[0] == tuple(range(84, 100))
    assert task.gaps == (Gap(16, grows=True, may_end=True),)
    task = continue_in(range(100), room(grows=False, truncate="left"))
    assert task.runs[0] == tuple(range(78, 100))
    assert continue_in(range(31), room(truncate="left")).runs[0] == tuple(range(31))


def test_runs_of_the_mask_id_are_gaps():
    checkpoint = SimpleNamespace(mask_id=MASK, config=SimpleNamespace(vocab_size=50))
    task = infill_ids_task([MASK, 7, 8, MASK, MASK, 9, MASK], checkpoint, room())
    assert task.runs == ((), (7, 8), (9,), ())
    assert task.gaps == (Gap(1), Gap(2), Gap(1))
    for wrong in ([7, 8], [7, MASK, 50]):
        with pytest.raises(DataError):
            infill_ids_task(wrong, checkpoint, room())


def test_growing_gaps_share_what_the_context_leaves():
    runs = [[7] * 10, [8] * 6, [9] * 4]
    task = gapped_task(runs, [Gap(100, grows=True), Gap(100, grows=True)], room())
    assert task.gaps == (Gap(6, grows=True), Gap(6, grows=True))
    with pytest.raises(DataError, match="context is 32"):
        gapped_task(runs, [Gap(13), Gap(10, grows=True)], room())


def test_every_packaged_preset_is_read_and_options_win():
    presets = packaged_presets()
    assert {"gsm8k-instruct", "math-instruct", "mmlu-instruct", "humaneval-base"} <= presets.keys()
    for name in presets:
        assert settle(Asked(name)).keys() == DEFAULTS.keys()
    paper = settle(Asked("gsm8k-instruct"))
    assert (paper["max_new_tokens"], paper["block_length"]) == (2048, 32)
    assert (paper["end_thinking_boost"], paper["end_thinking_power"]) == (100.0, 3.0)
    assert settle(Asked("gsm8k-instruct", block_length=8))["block_length"] == 8
    assert settle(Asked("humaneval-base"))["canvas"] == "fixed"


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
        settle(Asked(str(tmp_path / "wrong.toml")))


def test_a_commit_rule_given_replaces_that_of_the_preset_and_two_are_refused(tmp_path):
    (tmp_path / "fast.toml").write_text("[generate]\nthreshold = 0.9")
    settings = settle(Asked(str(tmp_path / "fast.toml"), factor=1.0))
    assert [key for key in COMMIT_RULES if settings[key] is not None] == ["factor"]
    with pytest.raises(UsageError, match="--threshold and --factor"):
        settle(Asked(threshold=0.9, factor=1.0))


class Letters:
    """A tokenizer whose ids are indices into a list of texts."""

    texts = ("a", "b", "\n", ".\n\n", "Q:", "<eos>")

    def decode(self, ids, keep_special=False):
        return "".join(self.texts[i] for i in ids if keep_special or i != 5)


def test_stop_strings_are_found_across_tokens_and_cut_before_the_first_they_touch():
    stops = ["\n\nQ:", "<eos>"]
    find_stop = stop_finder(Letters(), stops)
    assert stop_finder(Letters(), []) is None
    for ids in itertools.product(range(6), repeat=4):
        text = Letters().decode(ids, keep_special=True)
        place = first_stop(text, stops)
        kept = find_stop(list(ids))
        assert (kept is None) == (place is None)
        if kept is not None:
            assert len(Letters().decode(ids[:kept], keep_special=True)) <= place
            assert len(Letters().decode(ids[: kept + 1], keep_special=True)) > place


def test_a_stream_holds_back_what_may_become_a_stop_string():
    stops = ["\n\nQ:", "END"]
    for text, held in (("a", 0), ("a\n", 1), ("a\n\n", 2), ("a\n\nQ", 3), ("aEN", 2), ("\nE", 1)):
        assert begun(text, stops) == held


def test_lines_of_any_encoding_survive_json(tmp_path):
    texts = ["é", "\u2028", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    assert [r.value for r in JsonLines(str(file), request_of, "stop", Talk())] == texts
