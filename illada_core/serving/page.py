"""The page at `/`, made of markup, style and script: it loads nothing, and runs nothing else."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent


def page() -> tuple[str, dict[str, str]]:
    """Return the page, and headers that keep it to its own script and style."""
    markup, style, script = (
        (FOLDER / f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js")
    )
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
