"""Whatever the body of a request holds: it is answered, or refused in one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illada_core.inference.checkpoint import open_checkpoint
from tests.fuzz.hostile import fuzzed, hostile_json

inside = pytest.importorskip("tests.serving.inside")
SETTINGS = {
    "max_tokens": 4,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 3,
    "stop": ["a"],
    "n": 2,
    "cfg": 0.5,
    "block_length": 4,
    "threshold": 0.5,
    "eos_guard": "logits",
    "end_thinking_boost": 1.0,
    "end_thinking_power": 2.0,
    "stop_ids": [9],
    "cache": "block",
    "refresh_every": 2,
    "vicinity": 1,
    "stream_options": {"include_usage": True},
}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
]
BODIES = {
    "/v1/chat/completions": {"messages": MESSAGES, "stream": True, **SETTINGS},
    "/v1/completions": {"prompt": ["Once", "Twice"], "suffix": None, **SETTINGS},
    "/v1/infill": {"text": "a[MASK:2]b[MASK]c", **SETTINGS},
    "/illada/stream": {"prompt": [7, 8, 9], "sample": 1, **SETTINGS, "n": 1},
    "/v1/score": {
        "prompt": "The sky is",
        "choices": [" blue", " green"],
        "answer": 0,
        "rule": "likelihood",
        "samples": 4,
        "cfg": 0.5,
        "stop_gap": 1.0,
    },
    "/tokenize": {"content": "Once"},
    "/detokenize": {"tokens": [103, 104]},
}


@pytest.fixture(scope="module")
def client(byte_model):
    model = open_checkpoint(byte_model).load()
    lines = []
    with inside.service_around(model, byte_model, log=lines.append) as (client, engine):
        yield client
        assert engine.error is None
        assert [line.fault for line in lines if line.fault] == []


@pytest.mark.parametrize("path", BODIES)
@fuzzed(25)
@given(data=st.data())
def test_any_body(client, path, data):
    body = data.draw(hostile_json(BODIES[path])).encode("utf-8", "surrogatepass")
    response = client.post(path, content=body)
    assert response.status_code in (200, 400, 413), response.text
    if response.status_code == 200 and response.headers["content-type"] == "application/json":
        response.json()
    elif response.status_code == 200:
        assert '"error"' not in response.text
    else:
        assert "\n" not in response.json()["error"]["message"]
