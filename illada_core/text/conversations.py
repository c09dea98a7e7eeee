"""Conversations in the words of a tokenizer: its control tokens, its chat template or a plain one.

What a model is asked (generate, chat) and what it is trained on (packed examples) come from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from illada_core.text.chat_template import PLAIN_TEMPLATE, Message, Piece, render
from illada_core.text.tokenizer import Tokenizer


def prompt_pieces(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Piece]:
    """Return a conversation as pieces, up to where the assistant is to speak.

    Raises DataError where the template fails.
    """
    return pieces_of(tokenizer, messages, is_prompt=True)


def example_pieces(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[Piece]:
    """Return a conversation that the assistant ends as pieces.

    A template that can do without the date does, so that datasets are the same on every day.
    Raises DataError where the template fails.
    """
    return pieces_of(tokenizer, messages, is_prompt=False)


def pieces_of(tokenizer: Tokenizer, messages: Sequence[Message], is_prompt: bool) -> list[Piece]:
    """Render a conversation with what the tokenizer's files say."""
    special = special_strings(tokenizer)
    return render(
        tokenizer.chat_template,
        messages,
        tokenizer.controls,
        special,
        readable_tags(tokenizer).difference(special.values()),
        add_generation_prompt=is_prompt,
        has_clock=is_prompt,
    )


def template_fingerprint(tokenizer: Tokenizer) -> str:
    """Return the sha256 of the template that conversations are put into."""
    template = tokenizer.chat_template
    return hashlib.sha256((PLAIN_TEMPLATE if template is None else template).encode()).hexdigest()


def special_strings(tokenizer: Tokenizer) -> dict[str, str]:
    """Return what templates call bos_token, eos_token and so on."""
    return {
        f"{name}_token": tokenizer.piece(number)
        for name, number in vars(tokenizer.special).items()
        if number is not None
    }


def readable_tags(tokenizer: Tokenizer) -> set[str]:
    """Return added tokens that the files call no control tokens, such as </think>."""
    added = tokenizer.files.json.get("added_tokens") or ()
    return {token["content"] for token in added if not token["special"]}
