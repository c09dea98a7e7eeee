"""What a file of JSON holds, going by its beginning: records, or one text like any other."""

from __future__ import annotations

from typing import Any

from illada_core.data.sources.reading import BrokenInput, Meter, inflate_blocks, open_path
from illada_core.decoding import decode_record

BEGINNING_BYTES = 1 << 20  # enough for a record or two


def is_records(path: str, compression: str) -> bool:
    """Tell whether a file of JSON holds records: an array of objects, or objects a line.

    A single object, such as a package.json, is a text like any other unless it holds a `text`.
    """
    beginning = first_bytes(path, compression)
    text = beginning.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    if text[:1] == "[":
        return text[1:].lstrip()[:1] == "{"
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) == 1 and len(beginning) == BEGINNING_BYTES:
        return text[:1] == "{"  # one line, and a long one
    found = [record_of(line) for line in lines[:2]]
    if not found or found[0] is None:
        return False
    return "text" in found[0] if len(lines) == 1 else len(lines) > 2 or found[1] is not None


def record_of(line: str) -> dict[str, Any] | None:
    """Return the object that a line of JSON holds, if it does."""
    try:
        value = decode_record(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def first_bytes(path: str, compression: str) -> bytes:
    """Return the beginning of what a file holds, as far as it can be read."""
    data = b""
    try:
        with open_path(path) as file:
            for block in inflate_blocks(Meter(file), compression):
                data += block
                if len(data) >= BEGINNING_BYTES:
                    break
    except (BrokenInput, OSError):
        pass  # reading it will tell what is wrong
    return data[:BEGINNING_BYTES]
