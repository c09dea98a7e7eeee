"""What a decoder of tokenizer.json may still change of a text when more tokens follow.

Most decoders only lengthen a text, but for the bytes of a last character. Of those that may do more
nothing is shown before the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Each works on one token after the other, so that more tokens change nothing before them.
STEADY = {"ByteLevel", "ByteFallback", "Fuse", "Metaspace", "WordPiece", "BPEDecoder"}
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def stages_of(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the decoders that a decoder consists of."""
    if decoder is None:
        return []
    if decoder.get("type") != "Sequence":
        return [decoder]
    return [stage for part in decoder["decoders"] for stage in stages_of(part)]


def is_steady(decoder: Mapping[str, Any] | None) -> bool:
    """Tell whether more tokens change nothing of a text but its last bytes."""
    is_whole = False  # whether the tokens are one text already
    for stage in stages_of(decoder):
        match stage.get("type"):
            case "Replace":
                one_letter = len(stage["pattern"].get("String", "")) == 1
                steady = one_letter or not is_whole
            case "Strip":
                steady = stage["stop"] == 0 or not is_whole
            case kind:
                steady = kind in STEADY
        if not steady:
            return False
        is_whole = is_whole or stage["type"] in ("Fuse", "ByteLevel")
    return True


def joins_bytes(decoder: Mapping[str, Any] | None) -> bool:
    """Tell whether a run of byte tokens is read as a whole, so that its end may change it all."""
    return any(stage.get("type") == "ByteFallback" for stage in stages_of(decoder))
