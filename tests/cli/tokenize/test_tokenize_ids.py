"""`illada tokenize` without -o: ids through pipes, and texts back from them."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.corpus import TEXT, TOKENIZE
from tests.conftest import command_environment


@pytest.mark.parametrize("text", [TEXT, "", "\n", "no newline", "\r\n\r\n", "<[EOS]><[PAD]>"])
def test_ids_go_through_a_pipe_and_come_back_exactly(illada, corpus, text):
    arguments = ("tokenize", "-", "--tokenizer", "tokenizer.json")
    ids = illada(*arguments, stdin=text)
    assert len(ids.stdout.splitlines()) == 1
    assert not set(json.loads(ids.stdout)) & set(range(6))
    assert ids.stderr == ""
    assert illada(*arguments, "--decode", stdin=ids.stdout).stdout == text.replace("\r\n", "\n")


def test_decoded_texts_are_json_if_asked_for(illada, corpus):
    command = ("tokenize", "-", "--tokenizer", "tokenizer.json")
    ids = illada(*command, "--format", "lines", stdin="one\ntwo\n").stdout
    texts = illada(*command, "--decode", "--json", stdin=ids).stdout
    assert texts == '{"text": "one"}\n{"text": "two"}\n'


def test_bytes_survive_the_round_trip(corpus, tmp_path):
    data = "\ufeffa\r\n\u2028b\x1b[31m\v\x00".replace("\x00", "").encode()
    command = f"{sys.executable} -m illada_cli tokenize - --tokenizer tokenizer.json"
    done = subprocess.run(
        f"{command} | {command} --decode",
        shell=True,
        input=data,
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
    )
    assert done.stdout == data


def test_lines_and_json_lines_are_documents_in_a_pipe(illada, corpus):
    arguments = ("tokenize", "-", "--tokenizer", "tokenizer.json", "--format")
    lines = illada(*arguments, "lines", stdin="one\n\ntwo words\n").stdout
    assert [bool(json.loads(line)) for line in lines.splitlines()] == [True, False, True]
    decode = ("tokenize", "-", "--tokenizer", "tokenizer.json", "--decode", "--format")
    records = illada(*decode, "jsonl", stdin=lines).stdout
    assert records == '{"text": "one"}\n{"text": ""}\n{"text": "two words"}\n'
    assert illada(*arguments, "jsonl", stdin=records).stdout == lines
    described = illada(*arguments, "jsonl", "--json", stdin=records).stdout.splitlines()
    assert [json.loads(line)["record"] for line in described] == [0, 1, 2]
    assert illada(*decode, "lines", stdin="\n".join(described)).stdout == "one\n\ntwo words\n"


def test_the_ids_of_a_line_follow_it_at_once(start_illada, corpus):
    process = start_illada("tokenize", "-", "--tokenizer", "tokenizer.json", "--format", "lines")
    for text in ("first\n", "second\n"):
        process.stdin.write(text)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(10) == 0


def test_files_print_their_ids_too(illada, corpus):
    done = illada(*TOKENIZE, "--json", "--workers", "1")
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["a.txt", "b.md"]
    assert illada(*TOKENIZE, "-o", "-").stdout == illada(*TOKENIZE).stdout


def test_ids_that_are_none_are_named_by_line(illada, corpus):
    arguments = ("tokenize", "-", "--tokenizer", "tokenizer.json", "--decode")
    done = illada(*arguments, stdin="[77]\n[1.5]\n", code=1)
    assert "-:2: not a JSON array of ids" in done.stderr
    assert "id 999 is not in the vocabulary" in illada(*arguments, stdin="[999]", code=1).stderr


def test_a_closed_pipe_is_141(corpus, tmp_path):
    for file in range(50):
        (corpus / f"{file}.txt").write_text(TEXT * 20)
    command = f"{sys.executable} -m illada_cli {' '.join(TOKENIZE)}"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env=command_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_ids_to_a_full_device_fail(corpus, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "illada_cli", *TOKENIZE],
            cwd=tmp_path,
            env=command_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("illada: no space left on device")


def test_a_named_pipe_is_read_as_a_stream(illada, corpus, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"printf 'some text' > {tmp_path / 'pipe'}"]):
        done = illada("tokenize", "pipe", "--tokenizer", "tokenizer.json")
    assert (
        illada(
            "tokenize", "-", "--tokenizer", "tokenizer.json", "--decode", stdin=done.stdout
        ).stdout
        == "some text"
    )
