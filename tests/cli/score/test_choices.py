"""`illada score` on choices: shapes, choices that melt, all measures in one run, the pick alone."""

import json
import shutil

import pytest

from tests.byte_model import byte_letters
from tests.cli.score.test_score import jsonl, lines

NORMALIZES = ("sum", "byte", "character", "token")
ITEMS = [
    {"id": 0, "prompt": "The sky is", "choices": [" blue", " of a deep grün", "x"], "answer": 0},
    {"id": 1, "prompt": "Two and two", "choices": [" are four", " five", " zz"], "answer": " five"},
    {"id": 2, "prompt": "One", "choices": ["two", " ", "three"], "answer": 1},
    {"id": 3, "prompt": "Nobody", "choices": ["knows", "asks"]},
]


@pytest.fixture(scope="session")
def melting_model(byte_model, tmp_path_factory):
    """A model whose vocabulary has a bracket and its first letter as one token."""
    folder = tmp_path_factory.mktemp("melting") / "model"
    shutil.copytree(byte_model, folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    for number, letter in enumerate("AB", 263):
        content["model"]["vocab"]["(" + letter] = number
        content["model"]["merges"].append(["(", letter])
    path.write_text(json.dumps(content))
    return folder


def as_ids(text):
    """Return the ids of a text without merges: its bytes, six later."""
    assert len(byte_letters()) == 256
    return [byte + 6 for byte in text.encode()]


def test_choices_that_melt_with_the_prompt_are_encoded_apart_and_told(illada, melting_model):
    item = {"prompt": "Answer:\n(", "choices": ["A)", "B)", "C)"], "answer": 1}
    plain = {
        "prompt_ids": as_ids("Answer:\n("),
        "choices_ids": [as_ids(text) for text in item["choices"]],
    }
    run = ("score", "--ckpt", melting_model, "--jsonl", "-", "--json")
    done = illada(*run, stdin=jsonl(item, plain, {"prompt": "(", "choices": ["x", "y"]}))
    melted, ids, other = lines(done.stdout)
    assert melted["scores"] == pytest.approx(ids["scores"], abs=1e-5)
    assert len(set(melted["scores"])) == 3
    assert melted["tokens"] == [2, 2, 2]
    assert (melted["apart"], ids["apart"], other["apart"]) == ([0, 1], [], [])
    assert "1 item with choices that melt into the last token of their prompt" in done.stderr


def test_one_run_gives_every_accuracy_with_its_interval(illada, byte_model, tmp_path):
    (tmp_path / "items.jsonl").write_text(jsonl(*ITEMS))
    run = ("score", "--ckpt", byte_model, "--choices", "items.jsonl")
    done = illada(*run, "-o", "all")
    found = lines((tmp_path / "all").read_text())
    assert found[0]["bytes"] == [5, len(" of a deep grün".encode()), 1]
    assert found[0]["characters"] == [4, len("of a deep grün"), 1]
    assert found[2]["characters"] == [3, 1, 5]
    rights = {}
    for name in NORMALIZES:
        rights[name] = 0
        alone = lines(illada(*run, "--normalize", name, "--json").stdout)
        for one, whole in zip(alone, found, strict=True):
            sizes = whole.get(f"{name}s") if name != "sum" else [1] * len(whole["sums"])
            scores = [total / size for total, size in zip(whole["sums"], sizes, strict=True)]
            assert one["scores"] == pytest.approx(scores, abs=1e-5)
            assert one["pick"] == whole["picks"][name] == scores.index(max(scores))
            rights[name] += whole["picks"][name] == whole["answer"]
    for name, title in (
        ("sum", "acc, by sums "),
        ("byte", "acc_norm, over bytes "),
        ("character", "acc_norm, over characters (lm-evaluation-harness) "),
        ("token", "acc, per token "),
    ):
        (line,) = (line for line in done.stderr.splitlines() if title in line)
        assert f" {100 * rights[name] / 3:.1f} % (" in line
    assert f"{rights['sum']} right of 3 in 4 items" in done.stderr
    again = illada(*run, "-o", "all")
    assert "4 items had been scored before" in again.stderr
    spoken = [line for line in done.stderr.splitlines() if " % (" in line]
    assert [line for line in again.stderr.splitlines() if " % (" in line] == spoken


def test_a_file_of_an_earlier_version_is_refused_and_left_alone(illada, byte_model, tmp_path):
    (tmp_path / "items.jsonl").write_text(jsonl(*ITEMS))
    run = ("score", "--ckpt", byte_model, "--choices", "items.jsonl", "-o", "out")
    illada(*run)
    new = {"characters", "sums", "picks", "apart"}
    old = [
        {name: value for name, value in found.items() if name not in new}
        for found in lines((tmp_path / "out").read_text())
    ]
    (tmp_path / "out").write_text(jsonl(*old))
    done = illada(*run, code=2)
    assert "out, line 1: written by an earlier illada" in done.stderr
    assert lines((tmp_path / "out").read_text()) == old


def test_the_pick_alone_is_the_same_and_what_is_unfinished_is_a_bound(illada, byte_model, tmp_path):
    (tmp_path / "items.jsonl").write_text(jsonl(*ITEMS))
    run = ("score", "--ckpt", byte_model, "--choices", "items.jsonl")
    for normalize in NORMALIZES:
        options = ("--normalize", normalize, "--json")
        whole = lines(illada(*run, *options).stdout)
        found = lines(illada(*run, *options, "--pick-only").stdout)
        for one, full in zip(found, whole, strict=True):
            assert (one["pick"], one["correct"]) == (full["pick"], full["correct"])
            for score, bound, expected in zip(
                one["scores"], one["upper_bounds"], full["scores"], strict=True
            ):
                assert (score is None) != (bound is None)
                if score is None:
                    assert bound >= expected - 1e-5
                else:
                    assert score == pytest.approx(expected, abs=1e-5)
            assert one["picks"] == {**dict.fromkeys(NORMALIZES), normalize: one["pick"]}
        assert sum(one["forwards"] for one in found) < sum(full["forwards"] for full in whole)
    illada(*run, "-o", "out", "--pick-only")
    refused = illada(*run, "-o", "out", code=2)
    assert "out, line 1: made from another item or with other settings" in refused.stderr
    text = illada(*run, "--pick-only").stdout
    assert "\t<-" in text
    assert "acc_norm" not in illada(*run, "--pick-only").stderr


def test_shapes_of_others_are_scored_and_named_fields_read(illada, byte_model):
    items = [
        {"prompt": "Cup", "choices": ["broke", "sang"], "answer": 1},
        {
            "question": "Cup",
            "choices": {"text": ["broke", "sang"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        {"ctx": "Cup", "endings": ["broke", "sang"], "label": "1"},
        {"goal": "Cup", "sol1": "broke", "sol2": "sang", "label": 1},
        {"context_options": ["the cup", "a tile"], "continuation": "broke", "gold": 0},
        {"context": "the cup", "continuation": "broke"},
        {"context": "a tile", "continuation": "broke"},
    ]
    run = ("score", "--ckpt", byte_model, "--jsonl", "-", "--json", "--delimiter", " ")
    *same, options, cup, tile = lines(illada(*run, stdin=jsonl(*items)).stdout)
    for found in same:
        assert found["scores"] == pytest.approx(same[0]["scores"], abs=1e-5)
        assert found["answer"] == 1
    assert options["scores"] == pytest.approx(cup["scores"] + tile["scores"], abs=1e-5)
    assert options["correct"] == (options["pick"] == 0)
    other = {"q": {"text": "Cup"}, "choices": ["broke", "sang"], "expected_index": 1}
    assert (
        "expected_index seems to hold the answer"
        in illada(*run, "--map", "prompt=q.text", code=2, stdin=jsonl(other)).stderr
    )
    mapped = illada(
        *run, "--map", "prompt=q.text", "--map", "answer=expected_index", stdin=jsonl(other)
    )
    (found,) = lines(mapped.stdout)
    assert found["scores"] == pytest.approx(same[0]["scores"], abs=1e-5)
    assert found["answer"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--prompt", "a", "--choices", "b", "--map", "answer=x"), "--map is about JSON Lines"),
        (("--jsonl", "-", "--map", "anwser=x"), "--map is FIELD=NAME, not anwser=x"),
        (("--jsonl", "-", "--pick-only", "--rule", "one-shot"), "about --rule confidence"),
        (("--text", "-", "--pick-only"), "--pick-only is about choices"),
    ],
)
def test_options_that_would_do_nothing_are_usage_errors(illada, arguments, sentence):
    assert sentence in illada("score", "--ckpt", "nowhere", *arguments, code=2).stderr


def test_a_model_without_numbers_is_an_error_for_choices_and_texts(illada, byte_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(byte_model, tmp_path / "broken")
    path = tmp_path / "broken" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, path)
    run = ("score", "--ckpt", "broken")
    done = illada(*run, "--prompt", "a", "--choices", "b", "--choices", "c", code=1)
    assert "not finite numbers" in done.stderr
    assert done.stdout == ""
    assert "not finite numbers" in illada(*run, "--text", "-", code=1, stdin="text\n").stderr


def test_what_the_files_of_a_tokenizer_disagree_on_is_told(illada, byte_model, tmp_path):
    shutil.copytree(byte_model, tmp_path / "model")
    (tmp_path / "model" / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}')
    (tmp_path / "text").write_text("The sky is blue.")
    run = ("score", "--ckpt", "model")
    told = "no file gives the pad token [PAD] an id, so it is passed over"
    assert told in illada(*run, "--jsonl", "-", stdin=jsonl(ITEMS[0])).stderr
    assert told in illada(*run, "--text", "text", "--samples", "2").stderr
