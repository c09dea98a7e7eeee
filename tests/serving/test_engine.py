"""The engine and its routes in this process, with a model that a test can hold or break."""

import json

import pytest

from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.settings import described_settings
from tests.serving.served import wait_until

inside = pytest.importorskip("tests.serving.inside")
ASKED = {"prompt": "Once", "max_tokens": 8}


@pytest.fixture
def held(byte_model):
    return inside.Held(open_checkpoint(byte_model).config.vocab_size)


def end_time(engine):
    """Let the time of all jobs be over."""
    for job in engine.jobs():
        job.deadline = 0.0


def test_an_engine_that_fails_fails_its_requests_and_takes_no_more(held, byte_model):
    with inside.service_around(held, byte_model) as (client, engine):
        first, second = (inside.asking(client, "/v1/completions", ASKED) for _ in range(2))
        wait_until(lambda: engine.jobs_live + engine.jobs_waiting == 2)
        assert client.get("/health").status_code == 200
        held.fails = True
        held.allow(1)
        for response in (first(), second()):
            assert response.status_code == 500
            assert response.json()["error"]["type"] == "server_error"
            assert "device" not in response.text
        engine.thread.join(10)
        assert not engine.thread.is_alive()
        assert isinstance(engine.error, RuntimeError)
        assert client.get("/health").status_code == 503
        assert client.post("/v1/completions", json=ASKED).status_code == 503


def test_what_waits_when_its_time_is_over_is_told(held, byte_model):
    with inside.service_around(held, byte_model) as (client, engine):
        engine.sampler.sampler.batch_tokens = 1
        first = inside.asking(client, "/v1/completions", ASKED)
        wait_until(lambda: engine.jobs_live == 1)
        second = inside.asking(client, "/v1/completions", ASKED)
        wait_until(lambda: engine.jobs_waiting == 1)
        end_time(engine)
        engine.orders.put(late := engine.orders.get())
        late.deadline = 0.0
        held.allow(1)
        assert first().json()["illada"] == {"timed_out": True}
        assert first().json()["choices"][0] == {
            "index": 0,
            "text": "",
            "finish_reason": "length",
            "logprobs": None,
        }
        assert second().status_code == 503
        assert second().json()["error"]["code"] == "timeout"
        assert engine.sampler.live == 0


def test_only_settled_text_is_streamed_as_it_settles(held, byte_model):
    with inside.service_around(held, byte_model) as (client, engine):
        body = {**ASKED, "max_tokens": 16}
        response = inside.asking(client, "/v1/completions", {**body, "stream": True})
        wait_until(lambda: engine.jobs_live == 1)
        held.allow(7)
        wait_until(lambda: held.calls == 7)
        _, choice = next(iter(engine.live.values()))
        tokenizer, mask_id = engine.sampler.checkpoint.tokenizer, engine.sampler.checkpoint.mask_id
        assert choice.settled(tokenizer, mask_id) == ""  # the first position is the last filled
        held.allow()
        assert response().text.count('"text": "a') >= 1
        assert response().text.endswith("data: [DONE]\n\n")
        assert '"finish_reason": "length"' in response().text


def test_a_drained_engine_ends_what_it_has_and_refuses_more(held, byte_model):
    with inside.service_around(held, byte_model) as (client, engine):
        first = inside.asking(client, "/v1/completions", ASKED)
        wait_until(lambda: engine.jobs_live == 1)
        engine.drain(0.0)
        assert client.post("/v1/completions", json=ASKED).status_code == 503
        assert client.get("/health").status_code == 503
        held.allow(1)
        assert first().json()["choices"][0]["finish_reason"] == "length"


def test_a_stop_string_that_has_settled_ends_the_text_when_time_is_over(held, byte_model):
    held.order = -1
    with inside.service_around(held, byte_model) as (client, engine):
        body = {**ASKED, "max_tokens": 16, "block_length": 16, "stop": "aaa"}
        response = inside.asking(client, "/v1/completions", body)
        wait_until(lambda: engine.jobs_live == 1)
        held.allow(5)
        wait_until(lambda: held.calls == 5)
        end_time(engine)
        held.allow(1)
        assert response().json()["illada"] == {"timed_out": True}
        assert response().json()["choices"][0]["text"] == ""


def test_every_step_of_a_text_is_streamed(held, byte_model):
    held.allow()
    with inside.service_around(held, byte_model) as (client, _):
        body = {"prompt": "Once", "max_tokens": 8, "steps_per_block": 4}
        text = client.post("/illada/stream", json=body).text
        events = [part.split("\n") for part in text.strip().split("\n\n")]
        told = [each for each in events if each[0] != "event: text"]
        names = [event[0].removeprefix("event: ") for event in told]
        assert names == ["start", *["step"] * 4, "end"]
        deltas = [json.loads(each[1][6:])["delta"] for each in events if each not in told]
        assert "".join(deltas) == "aaaaaaaa"
        events = told
        assert '"open": [4, 5, 6, 7, 8, 9]' in events[1][1]
        assert '"position": 11' in events[1][1]
        assert '"open": []' in events[4][1]
        assert '"text": "aaaaaaaa"' in events[5][1]


def numbers_of_settings():
    """Return the names of all settings that are numbers."""
    return [name for name, (kind, _) in described_settings().items() if kind in (int, float)]


@pytest.mark.parametrize("extreme", [1e308, 1e-300, 2**63 - 1, 10**30], ids=str)
def test_no_setting_breaks_the_engine(byte_model, extreme):
    with inside.service_around(open_checkpoint(byte_model).load(), byte_model) as (client, engine):
        for name in numbers_of_settings():
            for beside in ({}, {"temperature": 1, "seed": 2**63}):
                body = {"prompt": "Once", "max_tokens": 4, **beside, name: extreme}
                if name == "max_new_tokens":
                    body.pop("max_tokens")
                    body["stop"] = "a"
                status = client.post("/v1/completions", json=body).status_code
                assert status in (200, 400), (name, engine.error)
        item = {"prompt": "a", "choices": ["b", "c"], "cfg": extreme}
        assert client.post("/v1/score", json=item).status_code in (200, 400)
        assert client.post("/v1/completions", json=ASKED).status_code == 200
        assert engine.error is None
