"""What is special: the tokens that no text ever becomes, and what the files say of added tokens.

A control token is an added token that is marked special, or that is bos, eos, pad, mask or the end
of a turn, whatever its mark. Other added tokens (`<think>`, runs of spaces) are vocabulary: text
gives them as it does in transformers. No tokenizer library is asked, they differ in what they tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from illada_core.decoding import MOST_IDS, Count, TokenId, shaped, shown
from illada_core.errors import DataError

# Where no file beside tokenizer.json names a control token: the names known families use.
KNOWN_NAMES = {
    "bos": ("<[BOS]>", "<|startoftext|>", "<|begin_of_text|>", "<s>", "<bos>"),
    "pad": ("<[PAD]>", "<|pad|>", "<pad>", "[PAD]"),
    "eos": (
        "<[EOS]>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "</s>",
        "<eos>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|return|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    "mask": ("<[MASK]>", "<|mdm_mask|>", "<|mask|>", "<mask>", "[MASK]"),
}
# What ends a turn in released templates, beside eos.
TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>")
# The roles that a tokenizer's files may name a token for; of each the token is marked special.
NAMED_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


MOST_CHARACTERS = 512  # of an added token: every beginning of it is remembered


@dataclass(frozen=True)
class SpecialIds:
    """The ids of the control tokens, None for those a tokenizer lacks."""

    bos: TokenId | None
    pad: TokenId | None
    eos: TokenId | None
    mask: TokenId | None


@dataclass(frozen=True)
class AddedToken:
    """One token that was added to a vocabulary, and how it is found in text."""

    id: int
    content: str
    special: bool
    normalized: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


def added_token(fields: Mapping[str, Any], number: Any) -> AddedToken:
    """Return an added token as a file writes it; what is not said is as in `tokenizers`.

    ValueError for what is none.
    """
    content = shaped(fields.get("content"), str, "the content of an added token")
    number = shaped(number, Count, f"the id of {shown(content)}")
    if len(content) > MOST_CHARACTERS:
        raise ValueError(f"the added token {shown(content)} has {len(content):,} characters")
    special = fields.get("special", False) is True
    return AddedToken(
        id=number,
        content=content,
        special=special,
        normalized=fields.get("normalized", not special) is True,
        lstrip=fields.get("lstrip", False) is True,
        rstrip=fields.get("rstrip", False) is True,
        single_word=fields.get("single_word", False) is True,
    )


def name_in(value: Any) -> str | None:
    """Return the token that a file names, written as a string or as an object with its content."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def find_special_ids(
    named: Mapping[str, Any],
    model: Mapping[str, Any],
    added: Mapping[str, int],
    vocabulary: Mapping[str, int],
    where: str,
) -> SpecialIds:
    """Find the control tokens: named beside tokenizer.json, in the model's file, or known by name.

    `named` holds `eos_token` and so on, `model` holds `eos_token_id`. Raises DataError where what
    is named is an ordinary word. A token that no file gives an id is passed over.
    """

    def find(role: str) -> int | None:
        text = name_in(named.get(f"{role}_token"))
        if text is not None and text not in added and text in vocabulary:
            raise DataError(
                f"{where} calls the ordinary word {text!r} its {role} token",
                "a control token must be among the added_tokens of tokenizer.json",
            )
        if text is not None and text in added:
            return added[text]
        if text is not None:
            return None
        listed = model.get(f"{role}_token_id")
        first = listed[0] if isinstance(listed, list) and listed else listed
        if type(first) is int and first in range(MOST_IDS):
            return first
        return next((added[name] for name in KNOWN_NAMES[role] if name in added), None)

    return SpecialIds(bos=find("bos"), pad=find("pad"), eos=find("eos"), mask=find("mask"))


def control_tokens(
    added: Sequence[AddedToken], special: SpecialIds, end_ids: Sequence[int]
) -> dict[str, int]:
    """Return token to id of the added tokens that text can never become."""
    ids = {number for number in (*vars(special).values(), *end_ids) if number is not None}
    return {
        token.content: token.id
        for token in added
        if token.special or token.id in ids or token.content in TURN_ENDS
    }
