"""A served model for tests: as a process of its own, or in this one around a model of a test."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection

from tests.conftest import command_environment

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


class Served:
    """`illada serve` at a free port of this machine."""

    def __init__(self, folder, *options, **environment):
        command = [sys.executable, "-m", "illada_cli", "serve", "--ckpt", folder, "--port", "0"]
        self.process = subprocess.Popen(
            [*map(str, command), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=command_environment(**environment),
        )
        self.said = []
        self.listening = threading.Thread(target=self.listen, daemon=True)
        self.listening.start()
        self.url = self.process.stdout.readline().strip()
        assert self.url, f"{self.process.wait()}: {self.said}"
        self.port = int(self.url.split(":")[2].split("/")[0])

    def listen(self):
        self.said.extend(self.process.stderr)

    def client(self, **options):
        """Return the client of the openai package."""
        from openai import OpenAI

        return OpenAI(**{"base_url": self.url, "api_key": "any", "max_retries": 0, **options})

    def ask(self, path, body=None, method=None, headers=None):
        """Return status and JSON (or text) of one request; a body may be bytes."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        is_json = response.headers["content-type"] == "application/json"
        return response.status, json.loads(text) if is_json else text

    def metric(self, name):
        """Return a number of /metrics."""
        lines = self.ask("/metrics")[1].splitlines()
        (found,) = [line for line in lines if line.startswith(f"illada_{name} ")]
        return float(found.split()[1])

    def send(self, path, body, headers=None):
        """Ask without waiting for an answer; return the socket."""
        data = json.dumps(body).encode()
        named = {"Host": "127.0.0.1", "Content-Length": len(data), **(headers or {})}
        head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        opened.sendall("\r\n".join([*head, "", ""]).encode() + data)
        return opened

    def stream(self, path, body, headers=None):
        """Open a stream by hand; return its socket after the head of the response."""
        opened = self.send(path, {**body, "stream": True}, headers)
        received = b""
        while b"\r\n\r\n" not in received:
            received += opened.recv(1)
        assert received.startswith(b"HTTP/1.1 200"), received
        return opened

    def end(self, *signals):
        """Send signals, and return the exit code and what was said on stderr."""
        for number in signals:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self.listening.join(10)
        return code, "".join(self.said)


@contextmanager
def serving(folder, *options, **environment):
    """Serve a folder for a while."""
    server = Served(folder, *options, **environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def wait_until(is_so, seconds=20):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)
