"""Requests in JSON Lines: each bad line is named by its number, whatever it holds."""

import json
import random
import time

import pytest

from illada_cli.jsonl import JsonLines, lines_of
from illada_cli.ui import Talk
from illada_core.errors import UsageError
from illada_core.inference.requests import read_request


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
        list(JsonLines(str(file), read_request, "stop", Talk()))
    skipping = JsonLines(str(file), read_request, "skip", Talk())
    assert [request.value for request in skipping] == ["ok", "last"]
    assert [request.line for request in skipping] == [1, 4]
    assert "line 3" in capsys.readouterr().err


def test_lines_of_any_encoding_survive_json(tmp_path):
    texts = ["é", "\u2028", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    assert [r.value for r in JsonLines(str(file), read_request, "stop", Talk())] == texts


def test_lines_are_the_same_wherever_their_bytes_are_cut():
    draws = random.Random(0)
    for _ in range(300):
        text = bytes(draws.choices(b"ab\n", k=draws.randrange(40)))
        cuts = sorted(draws.choices(range(len(text) + 1), k=3))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        arriving = [each for chunk in chunks for each in (None, chunk)]
        lines = list(lines_of(iter(arriving)))
        assert lines.count(None) == len(chunks)
        whole = text.split(b"\n")
        assert [line for line in lines if line is not None] == whole[:-1] + whole[-1:] * bool(
            whole[-1]
        )


def test_a_long_line_takes_time_in_proportion_to_its_length():
    started = time.process_time()
    (line,) = lines_of(b"x" * 65_536 for _ in range(1024))
    assert len(line) == 1 << 26
    assert time.process_time() - started < 3  # quadratic, it is some 20 s
