"""Whatever a line of a person's file holds: it is read, left out, or told in one sentence."""

import json
import os
import sys
from contextlib import suppress

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from illada_cli.chat.conversation import Conversation
from illada_cli.jsonl import fields_of
from illada_cli.tokenize.pipe import parse_ids
from illada_core.data.build.shapes import Unusable, read_dialogue
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import list_sources
from illada_core.evaluation.items import ScoringSettings, prepare_item
from illada_core.evaluation.shapes import read_choice_request
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.requests import Prompting, read_request
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import prepare
from illada_core.text.conversations import Chats
from tests.fuzz.hostile import decode_or_refuse, fuzzed, hostile_bytes, hostile_json

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.5]}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    {"role": "assistant", "content": "Hi", "weight": 1, "reasoning_content": "Hm"},
]
ASKED = {**MESSAGES[1], "content": "Hello"}
PROMPTS = [
    {"prompt": "Hello", "id": 7},
    {"messages": [MESSAGES[0], ASKED], "tools": None},
    {"prompt_ids": [6, 7, 8]},
    {"infill": "a[MASK:3]b"},
    {"infill_ids": [6, 5, 7]},
]
CHOICES = [
    {"prompt": "a", "choices": ["b", "c"], "answer": 1, "id": "x"},
    {"question": {"stem": "a", "choices": [{"text": "b", "label": "A"}]}, "answerKey": "A"},
    {"question": "a", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "B"},
    {"sentence": "a _ b", "option1": "c", "option2": "d", "answer": "2"},
    {"prompt_ids": [6, 7], "choices_ids": [[8], [9, 10]], "label": 0},
    {"goal": "a", "sol1": "b", "sol2": "c", "label": 0},
    {"messages": [ASKED], "choices": ["b"], "answer": "b"},
]
EXAMPLES = [
    {"messages": MESSAGES, "tools": json.dumps(TOOLS), "chat_template_kwargs": {"a": 1}},
    {"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL]}], "tools": TOOLS},
    {"prompt": "a", "response": "b", "system": "c"},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]},
    {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]},
]


@pytest.fixture(scope="module")
def checkpoint(byte_model):
    return open_checkpoint(byte_model)


def line_of(data, shapes):
    return data.draw(hostile_json(data.draw(st.sampled_from(shapes))))


@fuzzed(80)
@given(data=st.data())
def test_any_prompt(checkpoint, data):
    line = line_of(data, PROMPTS).encode("utf-8", "surrogatepass")
    decode_or_refuse(
        lambda: prepare(read_request(1, fields_of(line)), checkpoint, Settings(), Prompting())
    )


@fuzzed(100)
@given(data=st.data())
def test_any_choice(checkpoint, data):
    line = line_of(data, CHOICES).encode("utf-8", "surrogatepass")
    decode_or_refuse(
        lambda: prepare_item(
            read_choice_request(1, fields_of(line)), checkpoint, ScoringSettings(), Prompting()
        )
    )


@fuzzed(30)
@given(data=st.data())
def test_any_transcript(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "hostile.jsonl"
    text = line_of(data, [{"messages": MESSAGES, "tools": TOOLS}])
    path.write_text(f'{{"messages": []}}\n{text}\n', errors="surrogatepass")
    decode_or_refuse(lambda: Conversation().load(path), path)


@fuzzed(100)
@given(data=st.data())
def test_any_example(checkpoint, data):
    line, chats = line_of(data, EXAMPLES), Chats(checkpoint.require_tokenizer())

    def tell():
        with suppress(Unusable):
            chats.tell(read_dialogue(line))

    decode_or_refuse(tell)


@fuzzed(20)
@given(data=st.data())
def test_any_line_of_ids(data):
    line = line_of(data, [[1, 2, 3], {"ids": [1, 2, 3]}])
    decode_or_refuse(lambda: parse_ids(line, "here:1"), "here:1")


def read_all(path, key):
    """Read a file as a corpus does: what is wrong is a fault, never an error."""
    for chunk in corpus_chunks(list_sources([str(path)], "auto" if key else "chat"), key):
        texts = chunk.read()
        for text in texts.texts:
            text.encode()
        assert all("\n" not in fault.reason + fault.detail for fault in texts.faults)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.zst"])
@fuzzed(30)
@given(data=st.data())
def test_any_corpus(name, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / name
    lines = [line_of(data, [{"text": "a", "n": 1}]), '{"text": "b"}']
    text = f"[{','.join(lines)}]" if name == "a.json" else "\n".join(lines)
    found = text.encode("utf-8", "surrogatepass")
    path.write_bytes(data.draw(hostile_bytes(found)) if name != "a.jsonl" else found)
    for key in ("text", None) if name.startswith("a.json") else ("text",):
        decode_or_refuse(lambda key=key: read_all(path, key))


TABLE = {
    "text": ["abc", "dé" * 20, None, "x" * 100] * 10,
    "messages": [[{"role": "user", "content": "hello"}]] * 40,
}


def written_table(path):
    table = pyarrow.table(TABLE)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
        return path.read_bytes()
    opened = pyarrow.ipc.new_stream if path.stem == "stream" else pyarrow.ipc.new_file
    with pyarrow.OSFile(str(path), "wb") as file, opened(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=15)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["a.parquet", "stream.arrow", "file.arrow"])
@fuzzed(25)
@given(data=st.data())
def test_any_table(name, tmp_path_factory, data):
    """In a process of its own: what is wrong here ends not with an error, but with the process."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data.draw(hostile_bytes(written_table(path))))
    child = os.fork()
    if not child:
        code = 1
        try:
            for key in ("text", None):
                decode_or_refuse(lambda key=key: read_all(path, key))
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
