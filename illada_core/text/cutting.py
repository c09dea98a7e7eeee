"""Where a giant document may be cut so that its pieces are encoded apart.

Byte-level BPE first splits text by a pattern. All patterns in use (GPT-2's and its descendants)
begin a new part at a space that stands between a visible character and a letter, so a cut there
changes no id. Where a document lies in buffers or files plays no role: a cut depends on the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PIECE_CHARACTERS = 1 << 19
WINDOWS = (1 << 12, 1 << 16, PIECE_CHARACTERS)
# A space before a letter; else a line's first letter; both after something visible.
CLEAN_CUTS = (re.compile(r"(?<=\S)(?= [^\W\d_])"), re.compile(r"(?<=\S\n)(?=[^\W\d_])"))


def is_giant(text: str) -> bool:
    """Tell whether a document has to be cut."""
    return len(text) > PIECE_CHARACTERS + 1


def cut_text(blocks: Iterable[str]) -> Iterator[str]:
    """Cut one document, given in blocks of any size, into pieces of at most PIECE_CHARACTERS."""
    text, start = "", 0
    for block in blocks:
        text, start = text[start:] + block, 0
        while len(text) - start > PIECE_CHARACTERS + 1:
            cut = last_clean_cut(text, start)
            yield text[start:cut]
            start = cut
    yield text[start:]


def last_clean_cut(text: str, start: int) -> int:
    """Return the last place within PIECE_CHARACTERS from `start` where a cut changes no id.

    A text without any such place is cut at PIECE_CHARACTERS: nothing is lost, and the ids beside
    the cut may differ from those of the uncut text.
    """
    stop = start + PIECE_CHARACTERS
    for window in WINDOWS:
        first = max(stop - window, start + 1)
        for pattern in CLEAN_CUTS:
            found = pattern.finditer(text, first, stop + 2)
            places = [place.start() for place in found if place.start() <= stop]
            if places:
                return places[-1]
    return stop
