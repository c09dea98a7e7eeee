"""From Python comes what the verbs write, field by field; and importing illada loads no torch."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

import illada_core
from illada_core.errors import CheckpointError, DataError, UsageError
from illada_core.text.messages import Message
from tests.conftest import REPO, command_environment

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
LENGTH = ("--max-new-tokens", 24, "--block-length", 8)
SHORT = {"max_new_tokens": 24, "block_length": 8}


@pytest.fixture(scope="module")
def model(byte_model):
    return illada_core.load(byte_model, device="cpu")


@pytest.fixture
def written(illada, byte_model, tmp_path):
    """Return the JSON objects that a verb writes for some lines."""

    def run(verb, lines, *options):
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = illada(verb, "--ckpt", byte_model, "--jsonl", "in.jsonl", "--json", *options)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert [fields.pop("line") for fields in found] == list(range(1, len(lines) + 1))
        return found

    return run


def plain(result):
    """Return a result as JSON gives it back."""
    return json.loads(json.dumps(result.fields()))


def test_what_files_of_the_tokenizer_disagree_on_is_a_warning(byte_model, tmp_path):
    folder = shutil.copytree(byte_model, tmp_path / "model")
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    with pytest.warns(UserWarning, match="wants bos before a text"):
        illada_core.load(folder)


def test_generations_are_those_of_the_verb_field_by_field(model, written):
    lines = [
        {"prompt": "Once upon"},
        {"messages": TALK},
        {"prompt_ids": [10, 20, 30]},
        {"infill": "def f(x):\n[MASK:6]\n    return [MASK]"},
        {"infill_ids": [10, 5, 5, 20, 5]},
    ]
    options = ("--temperature", 0.8, "--seed", 7, "--stop", "e", "--stop-id", 77)
    settings = {"temperature": 0.8, "seed": 7, "stop": ["e"], "stop_ids": [77], **SHORT}
    expected = written("generate", lines, *LENGTH, *options)
    assert [plain(each) for each in model.generate(lines, **settings)] == expected
    assert [plain(model.generate(line, **settings)) for line in lines] == expected
    assert plain(model.generate("Once upon", **settings)) == expected[0]
    assert plain(model.chat(TALK, **settings)) == expected[1]
    messages = [Message(**turn) for turn in TALK]
    assert [plain(each) for each in model.chat([messages, TALK], **settings)] == [expected[1]] * 2
    assert plain(model.infill(lines[3]["infill"], **settings)) == expected[3]
    assert [plain(each) for each in model.infill([lines[3]["infill"]], **settings)] == expected[3:4]


def test_samples_and_presets_are_those_of_the_verb(model, illada, byte_model):
    options = ("--preset", "gsm8k-instruct", "--max-new-tokens", 16, "--samples", 3, "--json")
    done = illada("generate", "--ckpt", byte_model, "Hello", "--temperature", 1, *options)
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    assert [fields.pop("sample") for fields in expected] == [0, 1, 2]
    drawn = model.sample("Hello", 3, preset="gsm8k-instruct", max_new_tokens=16, temperature=1)
    assert [plain(each) for each in drawn] == expected
    assert len({each.text for each in drawn}) == 3


@pytest.mark.parametrize("changes", [{}, {"stop": ["K", "\u0000"]}, {"block_length": 1}])
def test_a_stream_is_the_text_in_pieces(model, changes):
    for prompt in ("Once upon", "a", "zz"):
        settings = {**SHORT, "temperature": 1.0, "seed": 3, **changes}
        pieces = list(model.stream(prompt, **settings))
        assert "".join(pieces) == model.generate(prompt, **settings).text
        assert all(pieces)


def test_scores_are_those_of_the_verb_field_by_field(model, written):
    lines = [
        {"query": "The sky is", "choices": [" blue", " green", "x"], "gold": 0},
        {"messages": TALK, "choices": ["4", "5"], "answer": "4"},
        {"prompt_ids": [10, 20], "choices_ids": [[30], [40, 50]]},
    ]
    expected = written("score", lines)
    assert [plain(each) for each in model.score(lines)] == expected
    assert plain(model.score("The sky is", [" blue", " green", "x"])) == {
        **expected[0],
        "answer": None,
        "correct": None,
    }
    likelihood = written(
        "score", lines, "--rule", "likelihood", "--samples", 32, "--normalize", "byte"
    )
    settings = {"rule": "likelihood", "samples": 32, "normalize": "byte"}
    assert [plain(each) for each in model.score(lines, **settings)] == likelihood
    two = model.score(["a", "b"], [["c", "d"], ["e"]], rule="one-shot", cfg=0.5, visible_eos=True)
    assert [len(verdict.scores) for verdict in two] == [2, 1]


def test_a_bound_is_that_of_the_verb(model, illada, byte_model, tmp_path):
    text = "Der Hund läuft. " * 20
    (tmp_path / "text.txt").write_text(text)
    options = ("--window", 64, "--stride", 32, "--samples", 4, "--json")
    done = illada("score", "--ckpt", byte_model, "--text", "text.txt", *options)
    assert plain(model.perplexity(text, window=64, stride=32, samples=4)) == json.loads(done.stdout)


def test_what_cannot_be_is_refused_in_a_sentence(model, byte_model, tmp_path):
    wrong = [
        (UsageError, lambda: model.generate("a", temprature=1.0)),
        (UsageError, lambda: model.generate("a", threshold=0.9, factor=1.0)),
        (UsageError, lambda: model.generate("a", truncate="right")),
        (UsageError, lambda: model.generate("a", preset="gsm8k")),
        (UsageError, lambda: model.score("a", ["b"], rule="best")),
        (UsageError, lambda: model.score("a", ["b"], sampels=3)),
        (UsageError, lambda: model.score("a", ["b"], samples=0)),
        (DataError, lambda: model.generate("")),
        (DataError, lambda: model.generate("x" * 600)),
        (DataError, lambda: model.generate({"prompt": "a", "infill": "b"})),
        (DataError, lambda: model.chat([])),
        (DataError, lambda: model.chat([{"role": "root", "content": "a"}])),
        (DataError, lambda: model.score("a", [])),
        (DataError, lambda: model.perplexity("")),
        (UsageError, lambda: illada_core.load(byte_model, device="cuda:77")),
        (UsageError, lambda: illada_core.load(byte_model, dtype="float8")),
        (CheckpointError, lambda: illada_core.load(tmp_path / "nowhere")),
    ]
    for error, act in wrong:
        with pytest.raises(error) as raised:
            act()
        assert raised.value.sentence


def test_a_dtype_may_be_torchs_own_and_the_parts_are_there(byte_model):
    model = illada_core.load(byte_model, device="cpu", dtype=torch.bfloat16)
    assert model.model.compute_dtype == torch.bfloat16
    assert model.config.vocab_size == 320
    assert model.tokenizer.decode(model.tokenizer.encode("ab")) == "ab"


def test_importing_illada_loads_no_torch_and_every_name_is_there():
    code = (
        "import sys, illada_core; assert 'torch' not in sys.modules; "
        "[getattr(illada_core, name) for name in illada_core.__all__]; "
        "assert set(illada_core.__all__) <= set(dir(illada_core))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=command_environment())
    assert done.returncode == 0
    assert (REPO / "illada_core" / "py.typed").exists()
    with pytest.raises(AttributeError):
        illada_core.nothing  # noqa: B018


def test_the_examples_of_the_documentation_run(byte_model, capsys):
    page = (REPO / "docs" / "python.md").read_text()
    names = {}
    for example in page.split("```python\n")[1:]:
        code = example.split("```")[0].replace("runs/first", str(byte_model))
        exec(code, names)
    assert capsys.readouterr().out
