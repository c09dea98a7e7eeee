"""Rendered conversations to ids, as transformers encodes them: one call for the whole text.

Special tokens in a rendered text are meant. Where a message spells one, the template's own marks
get other names first, in a copy of the tokenizer that knows only those: what is left is text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from illada_core.arrays import Counts, Ids
from illada_core.text.harmless import free_characters, pattern_of
from illada_core.text.library_json import decoding_json, library_json, touched
from illada_core.text.special_tokens import AddedToken
from illada_core.text.tokenizer import Tokenizer, tokenizers_tokenizer


@dataclass(frozen=True, eq=False)
class Encoding:
    """The ids of a text, and the characters that each of them stands for."""

    ids: Ids
    starts: Counts
    ends: Counts


class RenderedEncoder:
    """Encode rendered conversations. Threads may share it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.files, self.content = tokenizer.files, tokenizer.files.library_content
        self.controls = dict(tokenizer.controls)
        model = self.content["model"]
        unknown = model.get("unk_token") if isinstance(model["vocab"], dict) else None
        unknown_id = self.files.ids.get(unknown) if unknown else model.get("unk_id")
        # What a tokenizer gives for characters that it lacks is no mark.
        self.mark_ids = frozenset(self.controls.values()) - {unknown_id}
        self._mark_ids = np.array(sorted(self.mark_ids), np.uint32)
        self.renamed = lru_cache(maxsize=2)(self._rename)

    @cached_property
    def marks(self) -> re.Pattern[str]:
        """Match control tokens, and other added tokens that take a part of one away from it."""
        beginnings = {mark[:length] for mark in self.controls for length in range(1, len(mark) + 1)}
        others = (token.content for token in self.files.added if token.content not in self.controls)
        rivals = {text for text in others if overlaps(text, self.controls, beginnings)}
        return pattern_of(frozenset({*self.controls, *rivals}))

    def marks_in(self, text: str) -> list[tuple[int, str]]:
        """Return where in a rendered text control tokens stand, and which."""
        found = ((match.start(), match[0]) for match in self.marks.finditer(text))
        return [(place, mark) for place, mark in found if mark in self.controls]

    def marks_of(self, encoding: Encoding) -> list[int]:
        """Return the control tokens of an encoding, in order."""
        ids: list[int] = encoding.ids[np.isin(encoding.ids, self._mark_ids)].tolist()
        return ids

    def ids_of(self, marks: Sequence[tuple[int, str]]) -> list[int]:
        """Return the ids of control tokens, those that stand for unknown characters left out."""
        ids = [self.controls[mark] for _, mark in marks]
        return [number for number in ids if number in self.mark_ids]

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode whole texts as transformers does: every special token in them is meant."""
        return encodings(self._whole, texts)

    def encode_apart(self, text: str, marks: Sequence[tuple[int, str]], restored: str) -> Encoding:
        """Encode a text of which only some marks are meant.

        `text` and `restored`, what it says really, have the same length and the same marks.
        """
        names = self.names_for(restored)
        letters, place = [], 0
        for start, mark in marks:
            letters += [restored[place:start], names[mark]]
            place = start + len(mark)
        named = "".join([*letters, restored[place:]])
        assert len(named) == len(text)
        return encodings(self.renamed(tuple(names.items())), [named])[0]

    def names_for(self, text: str) -> dict[str, str]:
        """Return a name for each control token, as long as it, of characters not in a text."""
        names = usual_names(self._letters, tuple(self.controls))
        if set(text).isdisjoint("".join(names.values())):
            return names
        return usual_names(self._letters | set(text), tuple(self.controls))

    @cached_property
    def _letters(self) -> frozenset[str]:
        return frozenset().union(*self.files.ids)

    @cached_property
    def _whole(self) -> Any:
        return tokenizers_tokenizer(decoding_json(self.content, self.files.added))

    def _rename(self, names: tuple[tuple[str, str], ...]) -> Any:
        table = dict(names)
        added = [renamed_token(token, table) for token in self.files.added]
        content = {**self.content, "model": renamed_model(self.content["model"], table)}
        return tokenizers_tokenizer(library_json(content, added, frozenset()))


def overlaps(text: str, marks: Collection[str], beginnings: Collection[str]) -> bool:
    """Tell whether a token holds a mark, or ends with the beginning of one."""
    return any(mark in text for mark in marks) or any(
        text[at:] in beginnings for at in range(1, len(text))
    )


@lru_cache(maxsize=4)
def usual_names(taken: frozenset[str], controls: tuple[str, ...]) -> dict[str, str]:
    """Name each control token by a character of its own, filled up to its length."""
    free = free_characters(taken)
    filler = next(free)
    return {mark: next(free) + filler * (len(mark) - 1) for mark in controls}


def renamed_token(token: AddedToken, names: Mapping[str, str]) -> AddedToken:
    """Return an added token under its other name, which stands in the text as it is."""
    if token.content not in names:
        return token
    return replace(token, content=names[token.content], normalized=False)


def renamed_model(model: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a model in which control tokens have other names, and no merge makes them."""
    vocabulary = model["vocab"]
    if not isinstance(vocabulary, dict):
        pairs = [[names.get(piece, piece), score] for piece, score in vocabulary]
        return {**model, "vocab": pairs}
    changed = {
        **model,
        "vocab": {names.get(token, token): number for token, number in vocabulary.items()},
    }
    if model.get("unk_token"):
        changed["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if model.get("merges"):
        prefix = model.get("continuing_subword_prefix") or ""
        changed["merges"] = [
            merge for merge in model["merges"] if names.keys().isdisjoint(touched(merge, prefix))
        ]
    return changed


def encodings(library: Any, texts: Sequence[str]) -> list[Encoding]:
    """Encode texts with a tokenizer of `tokenizers`."""
    found = library.encode_batch(list(texts), add_special_tokens=False)
    return [encoding_of(each.ids, each.offsets) for each in found]


def encoding_of(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Encoding:
    """Return ids with the characters they stand for."""
    places = np.array(offsets, np.int64).reshape(-1, 2)
    return Encoding(np.array(ids, np.uint32), places[:, 0], places[:, 1])


@lru_cache(maxsize=2)
def encoder_of(tokenizer: Tokenizer) -> RenderedEncoder:
    """Return the encoder of a tokenizer, which takes a moment to load."""
    return RenderedEncoder(tokenizer)
