"""`illada generate -o FILE`: written like a stream of JSON, resumed, never mixed, one writer."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import command_environment

OPTIONS = ("--max-new-tokens", 12, "--block-length", 4, "--batch-tokens", 1, "--json")
DRAWN = ("--temperature", 0.8, "--seed", 3, "--samples", 2)
PROMPTS = [{"prompt": text, "id": f"é {text}"} for text in ("one", "two", "three")]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def without_keys(text):
    return [{name: value for name, value in line.items() if name != "key"} for line in lines(text)]


@pytest.fixture
def command(byte_model, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in PROMPTS))
    return ("generate", "--ckpt", byte_model, *OPTIONS, *DRAWN, "--jsonl", "prompts.jsonl")


def test_a_file_holds_what_stdout_would_and_is_gone_on_with(illada, command, tmp_path):
    printed = illada(*command)
    assert illada(*command, "-o", "out").stdout == ""
    whole = (tmp_path / "out").read_text()
    assert without_keys(whole) == lines(printed.stdout)
    assert "é one" in whole
    assert len({line["key"] for line in lines(whole)}) == 6
    first, second, third, *_ = whole.splitlines(keepends=True)
    (tmp_path / "out").write_text(first + second + third + '{"line": 2, "te')
    again = illada(*command, "-o", "out")
    assert "3 texts had been written before" in again.stderr
    assert "3 texts, " in again.stderr, "only the others were generated"
    assert (tmp_path / "out").read_text() == whole
    complete = illada(*command, "-o", "out")
    assert "0 calls of the model" in complete.stderr
    assert (tmp_path / "out").read_text() == whole
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_a_file_is_never_mixed_with_what_was_asked_otherwise(illada, command, byte_model, tmp_path):
    illada(*command, "-o", "out")
    whole = (tmp_path / "out").read_text()
    other = tmp_path / "other"
    shutil.copytree(byte_model, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-2] ^= 1
    (other / "model.safetensors").write_bytes(bytes(weights))
    changes = [
        (*command[:2], other, *command[3:]),
        (*command, "--seed", 4),
        (*command, "--max-new-tokens", 11),
        (*command, "--samples", 3),
        (*command, "--bos"),
    ]
    for change, line in zip(changes, (1, 1, 1, 3, 1), strict=True):
        refused = illada(*change, "-o", "out", code=2).stderr
        assert f"out, line {line}: made from another item or with other settings" in refused
        assert "--fresh replaces the file" in refused
        assert (tmp_path / "out").read_text() == whole
    (tmp_path / "prompts.jsonl").write_text(json.dumps(PROMPTS[0]) + "\n")
    refused = illada(*command, "-o", "out", code=2).stderr
    assert "out holds 6 lines, more than the 2 texts here" in refused
    illada(*command, "-o", "out", "--fresh")
    assert (tmp_path / "out").read_text() == "".join(whole.splitlines(keepends=True)[:2])


def test_a_file_that_is_not_ours_is_left_alone(illada, command, tmp_path):
    for mine in ('{"text": "mine"}\n', '{"key": "k", "scores": [1]}\n', "mine\n"):
        (tmp_path / "mine").write_text(mine)
        refused = illada(*command, "-o", "mine", code=2).stderr
        assert "mine, line 1: not written by illada generate -o" in refused
        assert (tmp_path / "mine").read_text() == mine


def test_a_signal_keeps_what_is_a_beginning(illada, start_illada, byte_model, tmp_path):
    long = ("--max-new-tokens", 60, "--eos-guard", "logits", "-o", "out")
    command = ("generate", "--ckpt", byte_model, "--jsonl", "-", *long)
    process = start_illada(*command)
    prompts = [json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(60)]
    process.stdin.write("".join(prompts))
    process.stdin.flush()
    while not ((tmp_path / "out").exists() and (tmp_path / "out").read_bytes()):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.stdin.close()
    assert process.wait(60) == 143
    assert "run the same command again to go on" in process.stderr.read()
    kept = (tmp_path / "out").read_text()
    assert [line["line"] for line in lines(kept)] == list(range(1, len(lines(kept)) + 1))
    assert kept.endswith("\n")


@pytest.mark.parametrize("verb", ["generate", "score", "trace"])
def test_two_runs_never_write_one_file(illada, start_illada, byte_model, tmp_path, verb):
    """The first waits for its next line; the second is told, and changes nothing."""
    item = {"generate": {"prompt": "a"}, "score": {"prompt": "a", "choices": ["b", "c"]}}
    options = ("-o", "out") if verb != "trace" else ("--trace", "out")
    verb = verb.replace("trace", "generate")
    command = (verb, "--ckpt", byte_model, "--jsonl", "-", *options)
    line = json.dumps(item[verb]) + "\n"
    first = start_illada(*command)
    first.stdin.write(line)
    first.stdin.flush()
    lock = tmp_path / ".out.illada-lock"
    while not lock.exists():
        assert first.poll() is None
    refused = illada(*command, code=1, stdin=line * 3)
    assert "another run is writing out" in refused.stderr
    first.stdin.write(line)
    first.stdin.close()
    assert first.wait(60) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if options[0] == "-o":
        assert [found["line"] for found in lines((tmp_path / "out").read_text())] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "none/x"), "there is no folder none to write x to"),
        (("-o", "."), ". is not a file"),
        (("-o", "x", "--stream"), "cannot --stream"),
        (("-o", "x", "--trace", "t"), "--trace tells of one run, and -o may take several"),
        (("--fresh",), "--fresh replaces the file of -o, and none is named"),
    ],
)
def test_what_does_not_go_with_a_file_is_a_usage_error_before_anything_is_loaded(
    tmp_path, arguments, sentence
):
    command = (sys.executable, "-m", "illada_cli", "generate", "--ckpt", "nowhere", "a", *arguments)
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=command_environment()
    )
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert list(Path(tmp_path).iterdir()) == []
