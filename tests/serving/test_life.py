"""How a server lives: clients that leave, slow readers, signals, limits, and its end."""

import json
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection

import pytest

from tests.conftest import command_environment
from tests.serving.served import CHAT, serving, wait_until

openai, psutil = map(pytest.importorskip, ("openai", "psutil"))

LONG = {"prompt": "Once upon", "max_tokens": 400, "block_length": 400, "eos_guard": "logits"}


def jobs(server):
    """Return how many jobs a server has."""
    return server.metric("jobs_live") + server.metric("jobs_waiting")


def test_who_leaves_takes_nothing_with_them(server, model):
    bodies = [{**LONG, "seed": number} for number in range(10)]
    streams = [server.stream("/v1/completions", body) for body in bodies[:5]]
    plain = [server.send("/v1/completions", body) for body in bodies[5:]]
    wait_until(lambda: jobs(server) == 10)
    for each in (*streams, *plain):
        each.close()
    found = server.ask("/v1/completions", {"prompt": "Twice", "max_tokens": 16})[1]
    alone = model.generate("Twice", block_length=8, max_new_tokens=16)
    assert found["choices"][0]["text"] == alone.text
    wait_until(lambda: jobs(server) == 0)


def test_a_slow_reader_holds_up_nobody(server):
    slow = server.stream("/v1/completions", {**LONG, "max_tokens": 40, "block_length": 4})
    server.ask("/v1/completions", {"prompt": "Twice", "max_tokens": 8})
    wait_until(lambda: jobs(server) == 0)
    received = b""
    while b"[DONE]" not in received:
        received += slow.recv(100)
        time.sleep(0.001)
    slow.close()


def test_a_server_for_others_wants_a_key_and_ends_its_streams(byte_model):
    key = {"Authorization": "Bearer the key"}
    environment = {"ILLADA_API_KEY": "the key"}
    with serving(byte_model, "--host", "0.0.0.0", "--grace", "0.5", **environment) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert server.client(api_key="the key").models.list().data
        with pytest.raises(openai.AuthenticationError) as raised:
            server.client(api_key="another").models.list()
        assert raised.value.code == "invalid_api_key"
        for path, body in (
            *(("/metrics", None), ("/v1/models", None)),
            *(("/v1/chat/completions", CHAT), ("/illada/stream", CHAT), ("/tokenize", {})),
        ):
            assert server.ask(path, body)[0] == 401
        assert server.ask("/health")[0] == 200
        assert server.ask("/health", headers={"Host": "any.example"})[0] == 200

        secret = {"prompt": "a secret", "max_tokens": 4}
        assert server.ask("/v1/completions", secret, headers=key)[0] == 200
        assert server.ask("/v1/completions", {**secret, "other": 1}, headers=key)[0] == 400
        opened = server.stream("/v1/completions", LONG, key)
        code, said = server.end(signal.SIGTERM)
        events = read_events(opened)
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert code == 143
        assert "requests may end" in said
        assert "/v1/completions 200" in said
        assert "/v1/completions 400" in said
        assert "secret" not in said
        assert "the key" not in said


def test_limits_of_waiting_and_of_time_and_two_signals(byte_model):
    limits = ("--max-waiting", "1", "--timeout", "2", "--batch-tokens", "1", "--grace", "60")
    with serving(byte_model, *limits) as server:
        client = server.client()
        first = server.stream("/v1/completions", LONG)
        wait_until(lambda: server.metric("jobs_live") == 1)
        second = server.stream("/v1/completions", LONG)
        wait_until(lambda: server.metric("jobs_waiting") == 1)
        with pytest.raises(openai.RateLimitError) as raised:
            client.completions.create(model="any", prompt="Once")
        assert raised.value.response.headers["retry-after"] == "1"
        assert read_events(first)[-1]["choices"][0]["finish_reason"] == "length"
        assert read_events(second)[-1].keys() & {"error", "choices"}
        status, told = server.ask("/v1/completions", LONG)
        assert status == 200
        assert told["illada"] == {"timed_out": True}
        assert told["choices"][0]["finish_reason"] == "length"
        status, told = server.ask("/v1/infill", {"text": "a[MASK:490]b", "block_length": 500})
        assert (status, told["error"]["code"]) == (503, "timeout")

        opened = server.stream("/v1/completions", LONG)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "requests may end" in "".join(server.said))
        assert server.end(signal.SIGINT)[0] == 130
        opened.close()


def read_events(stream):
    """Return the objects of a stream that is open, to its end."""
    received = b""
    while part := stream.recv(4096):
        received += part
        if received.endswith(b"0\r\n\r\n"):
            break
    stream.close()
    lines = [line for line in received.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def test_a_long_day_leaves_nothing_behind(server):
    def work(times):
        for number in range(times):
            body = {"prompt": f"Once {number}", "max_tokens": 8, "temperature": 1, "seed": number}
            assert server.ask("/v1/completions", {**body, "n": 2})[0] == 200
            if number % 4 == 0:
                server.stream("/v1/completions", {**LONG, "seed": number}).close()

    process = psutil.Process(server.process.pid)
    work(128)  # until pools and allocators have what they need
    before = process.memory_info().rss, process.num_threads()
    work(64)
    wait_until(lambda: jobs(server) == 0)
    assert process.memory_info().rss - before[0] < 4 * 2**20
    assert process.num_threads() <= before[1]


BROKEN = """
import sys
from illada_cli.app import main
from illada_core.inference.sampler import Sampler

def step(self):
    raise RuntimeError("the device is gone")

Sampler.step = step
sys.exit(main(["serve", "--ckpt", sys.argv[1], "--port", "0"]))
"""


def test_an_engine_that_fails_fails_its_requests_and_ends_the_process_with_1(byte_model):
    command = [sys.executable, "-c", BROKEN, str(byte_model)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=command_environment(), text=True, **pipes) as process:
        address = process.stdout.readline().split("/")[2]
        asking = HTTPConnection(address, timeout=60)
        asking.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 4}))
        response = asking.getresponse()
        told = json.loads(response.read())
        asking.close()
        said = process.communicate(timeout=60)[1]
    assert response.status >= 500
    assert told["error"]["message"]
    assert process.returncode == 1
    assert "the device is gone" in said
