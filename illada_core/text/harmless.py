"""Contents that cannot be taken for a template's own marks, and how they become themselves again.

A template sees what people wrote as it is, but for the first character of each special token
that is spelled there: a private-use character stands in for it, until the template's own marks are
known. To learn whether a content lends half of a mark to its neighbour, nearly every character gets
such a stand-in, and the marks are counted again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from illada_core.errors import DataError

PRIVATE_USE = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
# What is never replaced: white space, which templates trim, and what JSON writes another way.
UNTOUCHED = re.compile(r'[\s\x00-\x1f"\\]')


@dataclass(frozen=True)
class StandIns:
    """Private-use characters that stand in for others."""

    of: Mapping[str, str]

    def restore(self, text: str) -> str:
        """Return a text as it was before."""
        return text.translate({ord(stand_in): letter for letter, stand_in in self.of.items()})

    def hide_marks(self, text: str, marks: re.Pattern[str]) -> str:
        """Replace the first character of each mark that is spelled in a text."""
        letters = list(text)
        for match in re.finditer(f"(?={marks.pattern})", text):
            letters[match.start()] = self.of[letters[match.start()]]
        return "".join(letters)

    def hide_all(self, text: str, kept: re.Pattern[str]) -> str:
        """Replace every character, but for white space and what matches `kept`."""
        parts, place = [], 0
        for match in kept.finditer(text):
            parts += [self._replaced(text[place : match.start()]), match[0]]
            place = match.end()
        return "".join([*parts, self._replaced(text[place:])])

    def _replaced(self, text: str) -> str:
        return "".join(self.of.get(letter, letter) for letter in text)


def choose_stand_ins(
    texts: Iterable[str], marks: Collection[str], elsewhere: Iterable[str]
) -> StandIns:
    """Choose a stand-in for every character of some texts, none of which stands in any text."""
    letters = set().union(*texts)
    taken = letters.union(*marks, *elsewhere)
    firsts = {mark[0] for mark in marks}
    wanted = sorted(each for each in letters if each in firsts or not UNTOUCHED.match(each))
    free = free_characters(taken)
    try:
        return StandIns({letter: next(free) for letter in wanted})
    except StopIteration:
        raise DataError("the messages hold private-use characters everywhere") from None


def free_characters(taken: Collection[str]) -> Iterator[str]:
    """Yield private-use characters that are not taken."""
    for codes in PRIVATE_USE:
        yield from (chr(code) for code in codes if chr(code) not in taken)


@lru_cache(maxsize=64)
def pattern_of(strings: frozenset[str]) -> re.Pattern[str]:
    """Match the longest of some strings at the leftmost place, as tokenizers do."""
    longest_first = sorted(filter(None, strings), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def kept_strings(constants: Iterable[str], marks: Collection[str]) -> frozenset[str]:
    """Return what a template may look for in a message and what is no part of a mark."""
    whole = "\n".join(marks)
    return frozenset(
        text
        for text in constants
        if text and text not in whole and not any(mark in text for mark in marks)
    )


def begins_mark(texts: Iterable[str], marks: Collection[str]) -> bool:
    """Tell whether a text ends with the beginning of a mark, which what follows may complete."""
    beginnings = {mark[:length] for mark in marks for length in range(1, len(mark))}
    longest = max(map(len, marks), default=0)
    return any(text[-length:] in beginnings for text in texts for length in range(1, longest))


def strings_in(value: Any) -> Iterator[str]:
    """Yield all strings of a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings_in(key)
            yield from strings_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings_in(inner)


def changed_strings(
    value: Any, change: Callable[[str], str], change_key: Callable[[str], str]
) -> Any:
    """Return a JSON value with all its strings changed but roles."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {
            change_key(key): inner if key == "role" else changed_strings(inner, change, change_key)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [changed_strings(inner, change, change_key) for inner in value]
    return value
