"""Whether the two sides of a place in a text are encoded apart to the ids they have together.

Most tokenizers split a text into words first: there it is tried out, with the text around it.
Others work on whole texts, where what is far away may count: there a place is clean if no token of
the vocabulary holds the two letters beside it, so that none can ever cross it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from illada_core.text.library_json import parts_of

Encode = Callable[[str], list[int]]
# What a normalizer may do without looking further than at the letters of a word.
LOCAL = {
    *("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Nmt"),
    *("Precompiled", "Replace", "Prepend"),
}
UNOPENED: dict[str, dict[str, Any]] = {
    "Metaspace": {"prepend_scheme": "never"},
    "ByteLevel": {"add_prefix_space": False},
}


class Joints:
    """Where texts may be cut for one tokenizer: by its tokenizer.json, and by trying it out.

    `encode` encodes what does not begin a text: nothing is put in front of it.
    """

    def __init__(self, content: Mapping[str, Any], encode: Encode) -> None:
        self.content, self.encode = content, encode
        self.normalizers = parts_of(content.get("normalizer"), "normalizers")
        self.splitters = parts_of(content.get("pre_tokenizer"), "pretokenizers")
        self.is_local = all(part["type"] in LOCAL for part in self.normalizers)
        if opens(content) and any(map(is_flagged, content["added_tokens"])):
            self.is_local = False  # where such tokens begin, normalizers have a say
        self.is_whole = not any(map(splits, self.splitters))

    def is_clean(self, before: str, after: str) -> bool:
        """Tell whether a cut between two stretches of a text changes no id."""
        if not self.is_local or (self.is_whole and self.may_cross(before[-1:], after[:1])):
            return False
        whole = self.encode(before + after)
        return whole == self.encode(before) + self.encode(after)

    def may_cross(self, last: str, first: str) -> bool:
        """Tell whether a token of the vocabulary may hold two letters that follow each other."""
        left, right = self.spelt(last), self.spelt(first)
        if not left or not right or not {left[-1], right[0]} <= self.letters:
            return True
        return left[-1] + right[0] in self.pairs

    def spelt(self, letter: str) -> str | None:
        """Return how the vocabulary spells a letter; None where that is not known."""
        for part in self.normalizers:
            match part["type"], part.get("pattern"):
                case "Replace", {"String": str(found)} if len(found) == 1:
                    letter = letter.replace(found, part["content"])
                case "Replace" | "Prepend", _:
                    pass  # not within a text, or tried out
                case _:
                    return None
        for splitter in self.splitters:
            if splitter["type"] == "Metaspace":
                letter = letter.replace(" ", splitter["replacement"])
            elif splitter["type"] == "ByteLevel":
                letter = "".join(BYTE_LETTERS[byte] for byte in letter.encode())
        return letter

    @cached_property
    def tokens(self) -> list[str]:
        """The vocabulary."""
        vocabulary = self.content["model"]["vocab"]
        return (
            list(vocabulary) if isinstance(vocabulary, dict) else [item[0] for item in vocabulary]
        )

    @cached_property
    def letters(self) -> frozenset[str]:
        """The tokens of one letter: what has none may melt with its neighbour to an unknown one."""
        return frozenset(token for token in self.tokens if len(token) == 1)

    @cached_property
    def pairs(self) -> frozenset[str]:
        """Every two letters that follow each other in some token."""
        return frozenset(
            token[at : at + 2] for token in self.tokens for at in range(len(token) - 1)
        )


def splits(splitter: Mapping[str, Any]) -> bool:
    """Tell whether a pre-tokenizer splits texts into words."""
    match splitter["type"]:
        case "Metaspace":
            return splitter.get("split", True) is not False
        case "ByteLevel":
            return splitter.get("use_regex", True) is not False
        case "Split":
            return "Regex" in splitter["pattern"]
    return True


def continuing(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that puts nothing in front of a text: for what goes on with one."""
    normalizers = [
        part for part in parts_of(content.get("normalizer"), "normalizers") if not is_opening(part)
    ]
    splitters = [
        {**part, **UNOPENED.get(part["type"], {})}
        for part in parts_of(content.get("pre_tokenizer"), "pretokenizers")
    ]
    return {
        **content,
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splitters} if splitters else None,
    }


def opens(content: Mapping[str, Any]) -> bool:
    """Tell whether a tokenizer.json puts something in front of a text."""
    normalizers = parts_of(content.get("normalizer"), "normalizers")
    splitters = parts_of(content.get("pre_tokenizer"), "pretokenizers")
    return any(map(is_opening, normalizers)) or any(
        part["type"] in UNOPENED and part != {**part, **UNOPENED[part["type"]]}
        for part in splitters
    )


def is_flagged(token: Mapping[str, Any]) -> bool:
    """Tell whether more than its letters decides where an added token is found."""
    return any(token[flag] for flag in ("normalized", "lstrip", "rstrip", "single_word"))


def cutting_words(content: Mapping[str, Any]) -> re.Pattern[str] | None:
    """Return what finds the added tokens behind which something is put as in front of a text."""
    splitters = parts_of(content.get("pre_tokenizer"), "pretokenizers")
    is_once = any(part.get("prepend_scheme") == "first" for part in splitters)
    if is_once or not opens(content) or not content["added_tokens"]:
        return None
    return re.compile("|".join(re.escape(token["content"]) for token in content["added_tokens"]))


def is_opening(part: Mapping[str, Any]) -> bool:
    """Tell whether a normalizer does something at the beginning of a text only."""
    pattern = part.get("pattern") or {}
    return part["type"] == "Prepend" or str(pattern.get("Regex", "")).startswith("\\A")


def lost_bytes(content: Mapping[str, Any]) -> list[str]:
    """Say if a byte-level vocabulary has no token for some bytes, which go without a trace."""
    splitters = parts_of(content.get("pre_tokenizer"), "pretokenizers")
    model = content["model"]
    is_byte_level = any(part.get("type") == "ByteLevel" for part in splitters)
    if not is_byte_level or model.get("unk_token") or isinstance(model["vocab"], list):
        return []
    lost = sum(letter not in model["vocab"] for letter in BYTE_LETTERS)
    return [f"the vocabulary lacks {lost} of 256 bytes: text loses them"] if lost else []


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in byte-level vocabularies (GPT-2's)."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


BYTE_LETTERS = byte_letters()
