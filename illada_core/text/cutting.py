"""Where a giant document may be cut so that its pieces are encoded apart.

A cut depends on the text around it and on the tokenizer, which says whether a place is clean; where
a document lies in buffers or files plays no role. A document without a clean place is not cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

PIECE_CHARACTERS = 1 << 19
WINDOWS = (1 << 12, 1 << 16, PIECE_CHARACTERS)
AROUND = 256  # characters on both sides by which a place is judged
TRIED = 64  # places of each kind within a window
# All patterns in use begin a new part at a space before a letter, or at a line's first letter, both
# after something visible. Then come any places between letters and others, and, for texts without
# letters, those before white space and between digits and signs.
PLACES = (
    re.compile(r"(?<=\S)(?= [^\W\d_])"),
    re.compile(r"(?<=\S\n)(?=[^\W\d_])"),
    re.compile(r"(?<=[^\W\d_])(?=[\W\d_])|(?<=[\W\d_])(?=[^\W\d_])"),
    re.compile(r"(?<=\S)(?=\s)|(?<=\d)(?=[^\w\s])|(?<=[^\w\s])(?=\d)"),
)

# Whether a text may be cut between what is before a place and what is after it.
IsClean = Callable[[str, str], bool]


def is_giant(text: str) -> bool:
    """Tell whether a document has to be cut."""
    return len(text) > PIECE_CHARACTERS + 1


def cut_text(blocks: Iterable[str], is_clean: IsClean | None = None) -> Iterator[str]:
    """Cut one document, given in blocks of any size, into pieces of about PIECE_CHARACTERS.

    Without `is_clean` pieces are never longer, and their ids play no role.
    """
    text, start, reach = "", 0, PIECE_CHARACTERS
    for block in blocks:
        text, start = text[start:] + block, 0
        while len(text) - start > reach + AROUND:
            piece, start, reach = cut_once(text, start, reach, is_clean)
            if piece:
                yield piece
    while len(text) - start > reach + 1:
        piece, start, reach = cut_once(text, start, reach, is_clean)
        if piece:
            yield piece
    yield text[start:]


def cut_once(text: str, start: int, reach: int, is_clean: IsClean | None) -> tuple[str, int, int]:
    """Return the piece up to a place below `reach`; where to go on, and how far to look then."""
    stop = start + reach
    cut = last_clean_cut(text, stop - PIECE_CHARACTERS, is_clean)
    if cut is None:
        return "", start, reach + PIECE_CHARACTERS
    return text[start:cut], cut, PIECE_CHARACTERS


def last_clean_cut(text: str, start: int, is_clean: IsClean | None = None) -> int | None:
    """Return the last place within PIECE_CHARACTERS from `start` where a cut changes no id.

    None if there is none; but where ids play no role any place will do.
    """
    stop = start + PIECE_CHARACTERS
    for window in WINDOWS:
        first = max(stop - window, start + 1)
        for pattern in PLACES[: len(PLACES) if is_clean else 2]:
            found = pattern.finditer(text, first, stop + 2)
            places = [place.start() for place in found if place.start() <= stop]
            for place in places[: -TRIED - 1 : -1]:
                around = text[max(place - AROUND, 0) : place], text[place : place + AROUND]
                if is_clean is None or is_clean(*around):
                    return place
    return stop if is_clean is None else None
