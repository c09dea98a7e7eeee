"""`illada score` as a process: agreement, streams, bad input, resuming, signals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from illada_cli.ledger import open_ledger
from illada_cli.score.run import fault_of
from illada_core.errors import UsageError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def jsonl(*objects):
    return "".join(json.dumps(item) + "\n" for item in objects)


def cases_of(family):
    """Return the score cases of a fixture, and items whose second choice is the first reversed."""
    expected = json.loads((FIXTURES / f"{family}-tiny/expected.json").read_text())
    cases = expected["cases"]["score"]
    items = [
        {
            "prompt_ids": case["prompt"],
            "choices_ids": [case["target"], case["target"][::-1]],
            "id": number,
        }
        for number, case in enumerate(cases)
    ]
    return cases, items


@pytest.mark.parametrize(
    ("family", "options", "key"),
    [("illada", (), "confidence"), ("llada", ("--visible-eos",), "confidence_visible_eos")],
)
def test_confidence_equals_the_reference_without_a_tokenizer(illada, family, options, key):
    cases, items = cases_of(family)
    run = ("score", "--ckpt", FIXTURES / f"{family}-tiny", "--jsonl", "-", "--json", *options)
    done = illada(*run, stdin=jsonl(*items))
    for number, (found, case) in enumerate(zip(lines(done.stdout), cases, strict=True)):
        assert (found["id"], found["line"]) == (number, number + 1)
        assert found["scores"][0] == pytest.approx(case[key], abs=1e-4)
        assert len(found["scores"]) == 2
        assert found["pick"] == max((0, 1), key=lambda i: found["scores"][i])
        assert found["tokens"] == [len(case["target"])] * 2
        assert found["correct"] is None
        if len(case["target"]) == 1:
            assert found["forwards"] == 1


def test_likelihood_holds_the_exact_bound_within_its_error(illada, tmp_path):
    cases, items = cases_of("llada")
    (tmp_path / "items.jsonl").write_text(jsonl(*items))
    run = ("score", "--ckpt", FIXTURES / "llada-tiny", "--choices", "items.jsonl", "--json")
    done = illada(*run, "--rule", "likelihood", "--samples", 12, "--stop-gap", 0)
    for found, case in zip(lines(done.stdout), cases, strict=True):
        distance = abs(found["scores"][0] - case["likelihood_bound_exact"])
        assert distance < 4 * found["standard_errors"][0] + 1e-4
        assert (found["standard_errors"][0] == 0) == (2 ** len(case["target"]) <= 12)
        assert found["samples"] == 12


def test_one_prompt_gives_a_table_with_a_star_at_the_pick(illada, byte_model):
    options = ("--prompt", "The sky is ", "--choices", "blue", "--choices", "<[MASK]>\x1b[31m")
    done = illada("score", "--ckpt", byte_model, *options)
    rows = done.stdout.splitlines()
    assert [row.split()[-1] for row in rows] == ["blue", "<[MASK]>\\x1b[31m"]
    assert rows[0].startswith("* ")
    assert rows[1].startswith("  ")
    assert "forwards" in done.stderr


def test_text_is_joined_cut_and_compared_as_asked(illada, byte_model):
    """Spaces that end the prompt belong to the choice; control strings are plain characters."""
    items = [
        {"prompt": "The sky is ", "choices": ["blue", "<[EOS]>"], "answer": "blue"},
        {"query": "The sky is", "choices": [" blue", " <[EOS]>"], "gold": 1},
        {"prompt": "", "choices": ["é"], "answer": None},
    ]
    run = ("score", "--ckpt", byte_model, "--jsonl", "-", "--json")
    first, second, third = lines(illada(*run, stdin=jsonl(*items)).stdout)
    assert first["scores"] == pytest.approx(second["scores"], abs=1e-5)
    assert first["tokens"] == second["tokens"] == [5, 8]
    assert (first["bytes"], second["bytes"], third["bytes"]) == ([4, 7], [5, 8], [2])
    assert (first["correct"], second["correct"], third["correct"]) == (
        first["pick"] == 0,
        second["pick"] == 1,
        None,
    )
    done = illada(*run, "--normalize", "byte", "--bos", "--rule", "one-shot", stdin=jsonl(*items))
    per_byte = lines(done.stdout)[0]
    assert per_byte["scores"][0] > first["scores"][0]
    assert "accuracy 50.0 % (95 %: 9.5 to 90.5 %), 1 right of 2 in 3 items" in done.stderr


def test_a_conversation_is_a_prompt_in_the_chat_template(illada, byte_model):
    """The template is the plain one: bos, role, newline, text, newline, bos, assistant, newline."""

    def as_ids(text):
        return [byte + 6 for byte in text.encode()]

    prompt = [0, *as_ids("user\nSky <[EOS]>?\n"), 0, *as_ids("assistant\n")]
    items = [
        {"messages": [{"role": "user", "content": "Sky <[EOS]>?"}], "choices": ["blue", "red"]},
        {"prompt_ids": prompt, "choices_ids": [as_ids("blue"), as_ids("red")]},
    ]
    run = ("score", "--ckpt", byte_model, "--json")
    chat, ids = lines(illada(*run, "--jsonl", "-", stdin=jsonl(*items)).stdout)
    assert chat["scores"] == pytest.approx(ids["scores"], abs=1e-5)
    assert chat["bytes"] == [4, 3]
    single = ("--chat", "--prompt", "Sky <[EOS]>?", "--choices", "blue", "--choices", "red")
    (alone,) = lines(illada(*run, *single).stdout)
    assert alone["scores"] == pytest.approx(chat["scores"], abs=1e-5)


BAD = [
    ('{"prompt": "a", "choices": ["b"]', "not valid JSON"),
    ('"a"', "not a JSON object"),
    ('{"choices": ["b"]}', "prompt (or query)"),
    ('{"prompt": "a"}', "choices (or choices_ids) must be a list"),
    ('{"prompt": "a", "query": "b", "choices": ["b"]}', "both prompt and query"),
    ('{"messages": [{"role": "cat"}], "choices": ["b"]}', "message 0 has the role 'cat'"),
    ('{"prompt": "a", "choices": []}', "at least one choice"),
    ('{"prompt": "a", "choices": ["b", 3]}', "choices must be strings"),
    ('{"prompt": "a", "choices": ["b", ""]}', "choice 2 is empty"),
    ('{"prompt": "a", "choices": ["b"], "answer": 1}', "the answer 1 is none of the 1 choices"),
    ('{"prompt": "a", "choices": ["b"], "answer": true}', "the answer true is none"),
    ('{"prompt_ids": [7]}', "choices (or choices_ids) must be a list"),
    ('{"prompt_ids": [7], "choices_ids": [[]]}', "choice 1 tokenizes to nothing"),
    ('{"prompt_ids": [7], "choices_ids": [[400]]}', "id 400 is outside"),
    ('{"prompt_ids": [7], "choices_ids": [[5]]}', "the ids hold the mask id 5"),
    ('{"prompt_ids": [7.5], "choices_ids": [[8]]}', "whole numbers"),
    (r'{"prompt": "a\ud800", "choices": ["b"]}', "surrogates that are no characters"),
    (r'{"prompt": "a", "choices": ["b", "\ud800"]}', "surrogates that are no characters"),
    (r'{"messages": [{"role": "user", "content": "\ud800"}], "choices": ["b"]}', "surrogates"),
    (json.dumps({"prompt": "a" * 600, "choices": ["b"]}), "the prompt is 600 tokens long"),
    (json.dumps({"prompt": "a", "choices": ["b" * 600]}), "choice 1 is 600 tokens long"),
]
GOOD = '{"prompt": "a", "choices": ["b", "c"]}'


def test_bad_lines_are_named_by_number_and_skipped_if_asked(illada, byte_model):
    run = ("score", "--ckpt", byte_model, "--jsonl", "-", "--json")
    everything = "\n".join([*(line for line, _ in BAD), GOOD])
    done = illada(*run, "--on-error", "skip", stdin=everything)
    assert [found["line"] for found in lines(done.stdout)] == [len(BAD) + 1]
    for number, (_, sentence) in enumerate(BAD, 1):
        assert f"standard input, line {number}: " in done.stderr
        assert sentence in done.stderr
    assert f"{len(BAD)} lines skipped" in done.stderr
    done = illada(*run, code=2, stdin=f"{GOOD}\n\n{BAD[0][0]}")
    assert [found["line"] for found in lines(done.stdout)] == [1]
    assert "illada: standard input, line 3: not valid JSON" in done.stderr
    assert "--on-error skip" in done.stderr


def test_a_long_prompt_is_cut_on_the_left_only_if_asked(illada, byte_model):
    long, tail = "x" * 300 + "y" * 509, "y" * 509
    options = ("--choices", "ab", "--visible-eos", "--json")
    done = illada("score", "--ckpt", byte_model, "--prompt", long, *options, code=1)
    assert "the prompt is 809 tokens long" in done.stderr
    assert "--truncate left" in done.stderr
    truncate = ("--truncate", "left")
    cut = illada("score", "--ckpt", byte_model, "--prompt", long, *options, *truncate)
    assert "1 prompt cut on the left" in cut.stderr
    short = illada("score", "--ckpt", byte_model, "--prompt", tail, *options)
    assert lines(cut.stdout)[0]["scores"] == pytest.approx(lines(short.stdout)[0]["scores"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "there is nothing to score"),
        (("--prompt", "a"), "--prompt needs --choices"),
        (("--choices", "a", "--choices", "b"), "need a --prompt"),
        (("--choices", "nowhere.jsonl"), "there is no file nowhere.jsonl"),
        (("--prompt", "a", "--choices", "b", "--text", "-"), "give one of"),
        (("--jsonl", "-", "--chat"), "--chat is for one prompt"),
        (("--jsonl", "-", "--window", "8"), "--window is about --text"),
        (("--text", "-", "--rule", "confidence"), "--rule confidence does not go with it"),
        (("--text", "-", "--visible-eos"), "--visible-eos is about choices"),
        (("--text", "-", "-o", "x"), "-o is about choices"),
        (("--text", "-", "--normalize", "byte"), "--normalize is about choices"),
        (("--text", "-", "--stop-gap", "0"), "--stop-gap is about choices"),
        (("--jsonl", "-", "--samples", "4"), "--samples is about --rule likelihood"),
        (("--jsonl", "-", "--stop-gap", "0"), "--stop-gap is about --rule likelihood"),
        (("--jsonl", "-", "-o", "none/x"), "there is no folder none to write x to"),
        (("--jsonl", "-", "--rule", "guess"), "guess"),
    ],
)
def test_contradicting_options_are_usage_errors_before_anything_is_loaded(arguments, sentence):
    script = (
        "import sys; from illada_cli.app import main; "
        "code = main(['score', '--ckpt', 'nowhere', *sys.argv[1:]]);"
        "assert not {'torch', 'numpy', 'tokenizers'} & set(sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr


def test_an_interrupted_output_file_is_finished_and_never_mixed(illada, tmp_path):
    _, items = cases_of("illada")
    (tmp_path / "items.jsonl").write_text(jsonl(*items))
    run = ("score", "--ckpt", FIXTURES / "illada-tiny", "--choices", "items.jsonl", "-o", "out")
    illada(*run)
    out = tmp_path / "out"
    whole = out.read_text()
    assert [found["id"] for found in lines(whole)] == list(range(len(items)))
    torn = "".join(whole.splitlines(keepends=True)[:3]) + '{"line": 4, "sco'
    out.write_text(torn)
    done = illada(*run)
    assert "3 items had been scored before" in done.stderr
    assert done.stdout == ""
    again = lines(out.read_text())
    for before, after in zip(lines(whole), again, strict=True):
        assert after["scores"] == pytest.approx(before["scores"], abs=1e-5)
        assert {**before, "scores": 0} == {**after, "scores": 0}

    refused = illada(*run, "--rule", "one-shot", code=2)
    assert "out, line 1: made from another item or with other settings" in refused.stderr
    assert lines(out.read_text()) == again
    # A corrected answer is not judged by what the file says of the wrong one.
    (tmp_path / "items.jsonl").write_text(jsonl({**items[0], "answer": 1}, *items[1:]))
    assert "out, line 1: made from another item" in illada(*run, code=2).stderr
    (tmp_path / "items.jsonl").write_text(jsonl(*items[:2]))
    assert "holds 8 lines, more than the 2 items here" in illada(*run, code=2).stderr
    illada(*run, "--fresh", "--rule", "one-shot")
    assert [found["forwards"] for found in lines(out.read_text())] == [1, 1]


def test_a_file_that_is_not_an_output_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text('{"text": "mine"}\n')
    with (
        pytest.raises(UsageError, match="not written by illada score -o"),
        open_ledger(tmp_path / "mine", "settings", False, fault_of),
    ):
        pass
    assert (tmp_path / "mine").read_text() == '{"text": "mine"}\n'


def start_with_items(start_illada, ckpt, count, *options):
    """Start scoring from a pipe that stays open, and give it some items."""
    process = start_illada("score", "--ckpt", ckpt, "--jsonl", "-", "--json", *options)
    _, items = cases_of("illada")
    process.stdin.write(jsonl(*(items[i % len(items)] for i in range(count))))
    process.stdin.flush()
    return process


def test_a_signal_leaves_whole_lines_and_its_exit_code(start_illada):
    process = start_with_items(start_illada, FIXTURES / "illada-tiny", 5)
    first = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert [found["id"] for found in lines("".join(first) + rest)] == [0, 1, 2, 3, 4]
    assert "stopped after 5 items" in errors


def test_a_closed_pipe_ends_quietly(start_illada):
    process = start_with_items(start_illada, FIXTURES / "illada-tiny", 2000)
    process.stdout.readline()
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=60) == 141
    assert "Traceback" not in process.stderr.read()


def test_text_gives_a_bound_with_its_error(illada, byte_model, tmp_path):
    (tmp_path / "text.txt").write_text("Colourless green ideas sleep furiously. " * 4)
    run = ("score", "--ckpt", byte_model, "--text", "text.txt")
    (found,) = lines(illada(*run, "--window", 40, "--json").stdout)
    assert (found["tokens"], found["bytes"], found["windows"]) == (160, 160, 4)
    assert found["perplexity"] == pytest.approx(2 ** found["bits_per_byte"])
    assert 0 < found["perplexity_standard_error"] < found["perplexity"] / 4
    table = illada("score", "--ckpt", byte_model, "--text", "-", stdin="short\n").stdout
    assert table.startswith("perplexity     at most ")
    assert "--window 600 is more than the context" in illada(*run, "--window", 600, code=2).stderr
    assert "holds no text" in illada("score", "--ckpt", byte_model, "--text", "-", code=1).stderr


def test_text_needs_a_tokenizer(illada):
    run = ("score", "--ckpt", FIXTURES / "llada-tiny", "--prompt", "a", "--choices", "b")
    done = illada(*run, code=1)
    assert "holds no tokenizer.json" in done.stderr
