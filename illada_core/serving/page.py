"""The page at `/`, made of markup, style and script: it loads nothing, and runs nothing else."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import get_args, get_type_hints

from illada_core.inference.settings import Settings

FOLDER = Path(__file__).parent
ORDERS = "const ORDERS = [];"  # in the script, which is given what there is to choose from


def page() -> tuple[str, dict[str, str]]:
    """Return the page, and headers that keep it to its own script and style."""
    markup, style, script = (
        (FOLDER / f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js")
    )
    assert ORDERS in script, "the page has lost its place for the orders"
    orders = json.dumps(get_args(get_type_hints(Settings)["remasking"]))
    script = script.replace(ORDERS, f"const ORDERS = {orders};")
    text = markup.replace("<style>", f"<style>{style}").replace("<script>", f"<script>{script}")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {hash_of(script)}",
            f"style-src {hash_of(style)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return text, {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


def hash_of(content: str) -> str:
    """Return what allows an element with this content in a policy."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
