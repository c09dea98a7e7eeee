"""Who is served: keys, Host and Origin headers, and requests that are not sound."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from illada_cli.serve.options import ServeOptions, check
from illada_core.errors import UsageError
from illada_core.inference.settings import Settings
from illada_core.serving.page import page
from tests.conftest import command_environment

ASKED = {"prompt": "Once", "max_tokens": 4}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
def test_another_host_header_is_refused(server, host):
    status, told = server.ask("/v1/completions", ASKED, headers={"Host": host})
    assert (status, told["error"]["code"]) == (403, "unknown_host")
    assert server.ask("/health", headers={"Host": host})[0] == 403


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_names_of_this_machine_are_served(server, name):
    assert server.ask("/v1/models", headers={"Host": f"{name}:{server.port}"})[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_are_refused(server, origin):
    status, told = server.ask("/v1/completions", ASKED, headers={"Origin": origin})
    assert (status, told["error"]["code"]) == (403, "unknown_origin")


def test_the_own_page_may_ask(server):
    headers = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert server.ask("/v1/completions", ASKED, headers=headers)[0] == 200


def test_no_other_site_may_read(server):
    for headers in ({}, {"Origin": f"http://127.0.0.1:{server.port}"}):
        names = [name.lower() for name in response_to(server, "/v1/models", headers).headers]
        assert not [name for name in names if name.startswith("access-control")]


def response_to(server, path, headers=None):
    """Return the response to a GET, its body read."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    response.text = response.read().decode()
    connection.close()
    return response


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"prompt": NaN}', 400),
        (b'{"prompt": "a", "prompt": "b"}', 400),
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "a", "seed": 1e999}', 400),
        (b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b'{"prompt": "' + b"a" * 2**20 + b'"}', 413),
        (b'{"prompt": "a\\u0000b", "max_tokens": 1}', 200),
    ],
    ids=str,
)
def test_a_body_that_is_not_sound_is_refused(server, data, code):
    status, told = server.ask("/v1/completions", data)
    assert status == code
    if code != 200:
        assert told["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/responses", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/../../etc/passwd", 404),
    ],
)
def test_other_paths_and_methods_are_told_as_errors(server, method, path, code):
    status, told = server.ask(path, method=method)
    assert status == code
    assert set(told["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"host": "0.0.0.0"}, None, "no key keeps them out"),
        ({"host": "::"}, None, "no key keeps them out"),
        ({"host": "box.example"}, None, "no key keeps them out"),
        ({"no_api_key": True}, "a", "there is a key"),
        ({}, "two\nlines", "holds no key"),
        ({}, "", "holds no key"),
    ],
)
def test_a_server_that_must_not_be_is_told(monkeypatch, changes, key, words):
    monkeypatch.delenv("ILLADA_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("ILLADA_API_KEY", key)
    with pytest.raises(UsageError, match=words):
        check(ServeOptions(ckpt="DIR", settings=Settings(), **changes))


def test_a_key_comes_from_a_file(tmp_path):
    (tmp_path / "key").write_text("the key\n")
    asked = ServeOptions(
        ckpt="DIR", settings=Settings(), host="0.0.0.0", api_key_file=tmp_path / "key"
    )
    assert check(asked) == "the key"


def test_a_port_in_use_is_told_before_the_model_loads(illada, byte_model, server):
    done = illada("serve", "--ckpt", byte_model, "--port", server.port, code=2)
    assert f"port {server.port} of 127.0.0.1: address already in use" in done.stderr


def test_help_loads_neither_the_server_nor_torch():
    script = (
        "import sys\nfrom illada_cli.app import main\nmain(['serve', '--help'])\n"
        "print([m for m in ('starlette', 'uvicorn', 'torch', 'numpy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=command_environment())
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_page_offers_each_order_of_commits_and_may_run_its_script():
    text, headers = page()
    offered = json.loads(re.search(r"const ORDERS = (.*);", text)[1])
    assert offered == ["low-confidence", "random", "margin", "entropy"]
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in headers["content-security-policy"]
