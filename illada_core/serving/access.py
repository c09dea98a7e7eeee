"""Who may ask, and how much: the key, the Host and Origin headers, and the size of a body."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request

from illada_core.decoding import decode_json
from illada_core.serving.replies import Refusal

MOST_BODY_BYTES = 2**20
BODY_TIMEOUT_S = 30.0
LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
# What a browser may load without the key, which it could not send yet, and what probes ask.
OPEN_PATHS = frozenset(("/", "/health", "/healthz"))


@dataclass(frozen=True)
class Access:
    """What a request must bring. Without `hosts` any Host header will do."""

    key: str | None = None
    hosts: Collection[str] | None = LOOPBACK
    origins: Collection[str] = ()

    def check(self, request: Request) -> None:
        """Raise Refusal for a request that may not be served.

        A page of another site can reach a server on loopback: under another name of this machine
        (the Host header tells), or without reading what comes back (the Origin header tells).
        """
        host = request.headers.get("host", "")
        if self.hosts is not None and host_name(host) not in self.hosts:
            raise Refusal(403, "the Host header names another machine", code="unknown_host")
        origin = request.headers.get("origin")
        if origin is not None and origin not in self.origins and urlsplit(origin).netloc != host:
            raise Refusal(403, "pages of other sites are not served here", code="unknown_origin")
        if self.key is not None and request.url.path not in OPEN_PATHS:
            self.check_key(request.headers.get("authorization", ""))

    def check_key(self, given: str) -> None:
        """Raise Refusal unless a header holds the key; how long that takes tells nothing."""
        wanted = f"Bearer {self.key}"
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise Refusal(
                401,
                "the Authorization header holds no key, or another",
                "authentication_error",
                "invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def host_name(header: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


async def read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a body. Raises Refusal for any other, a long or a slow one."""
    try:
        data = await asyncio.wait_for(read_bytes(request), BODY_TIMEOUT_S)
    except TimeoutError:
        raise Refusal(408, "the body did not come in time", code="timeout") from None
    except ClientDisconnect:
        raise Refusal(400, "the body broke off") from None
    try:
        body = decode_json(data)
    except ValueError as error:
        raise Refusal(
            400, f"the body is no JSON: {str(error)[:200]}", code="invalid_json"
        ) from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body is no JSON object", code="invalid_json")
    return body


async def read_bytes(request: Request) -> bytes:
    """Return a body that is not too long. Raises Refusal as soon as it is."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_BODY_BYTES:
            sentence = f"the body is longer than {MOST_BODY_BYTES:,} bytes"
            raise Refusal(413, sentence, code="too_large", headers={"connection": "close"})
    return bytes(data)
