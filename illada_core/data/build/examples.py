"""Chat examples to documents: a line of JSON to a conversation, ids and whose turn each id is.

A document is one example in the tokenizer's chat template, ended by one eos; its ids are those of
the whole text in one piece. Errors are faults of their line; what the dataset is made with is
documents.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from illada_core.data.build.encoding import Encoded, Examples
from illada_core.data.build.fitting import (
    Asked,
    ChatFormat,
    Example,
    end_with_eos,
    make_fit,
    pad,
)
from illada_core.data.build.shapes import Unusable, read_dialogue
from illada_core.data.sources.reading import Fault, Texts, utf8_size
from illada_core.data.store.turns import MOST_TURNS
from illada_core.errors import DataError
from illada_core.text.conversations import Chats, Told
from illada_core.text.harmless import strings_in
from illada_core.text.messages import Dialogue
from illada_core.text.rendered import Encoding

# Left out because it was asked for: no faults of their lines.
TOO_LONG, RESPONSE_TOO_LONG = "longer than a row", "response too long for a row"
UNFIT = "unfit for the chat template"


@dataclass(frozen=True)
class Draft:
    """An example before its text is encoded."""

    file: int
    record: int
    size: int
    told: Told


def encode_examples(
    texts: Texts, source_bytes: int, chats: Chats, eos_id: int, chat: ChatFormat
) -> Encoded:
    """Encode the examples of one chunk, whose texts are lines of JSON."""
    faults, drafts = list(texts.faults), []

    def leave_out(error: Unusable, file: int, record: int) -> None:
        faults.append(Fault(file, record, error.reason, error.detail, record + 1))

    for line, file, record in zip(texts.texts, texts.files, texts.records, strict=True):
        try:
            drafts.append(read_draft(line, file, record, chats))
        except Unusable as error:
            leave_out(error, file, record)
    kept, examples, cut = [], [], []
    encodings = chats.encode([draft.told.printed for draft in drafts])
    for draft, encoding in zip(drafts, encodings, strict=True):
        try:
            whole, said = read_encoding(draft, encoding, eos_id)
            asked = partial(asked_of, chats, draft.told, said)
            fitting = fit_to_row(whole, asked, eos_id, chat)
        except Unusable as error:
            leave_out(error, draft.file, draft.record)
            continue
        kept.append(draft)
        examples.append(pad(fitting, eos_id, chat))
        cut.append(fitting is not whole)
    ids = np.concatenate([np.empty(0, np.uint32), *(example.ids for example in examples)])
    return Encoded(
        ids=ids,
        ends=np.cumsum([len(example.ids) for example in examples], dtype=np.int64),
        files=np.array([draft.file for draft in kept], np.int64),
        records=np.array([draft.record for draft in kept], np.int64),
        sizes=np.array([draft.size for draft in kept], np.int64),
        open_size=0,
        faults=sorted(faults, key=lambda fault: (fault.file, fault.record)),
        digests=texts.digests,
        source_bytes=source_bytes,
        examples=Examples(
            turns=np.concatenate([np.empty(0, np.uint16), *(each.turns for each in examples)]),
            cut=np.array(cut, bool),
            rewritten=sum(draft.told.is_rewritten for draft in kept),
        ),
        unknown=chats.tokenizer.count_unknown(ids),
    )


def read_draft(line: str, file: int, record: int, chats: Chats) -> Draft:
    """Read one line and put it into the tokenizer's template. Raises Unusable."""
    dialogue = read_dialogue(line)
    size = size_of(dialogue)
    if sum(message.role == "assistant" for message in dialogue.messages) > MOST_TURNS:
        raise Unusable("too many responses", f"over {MOST_TURNS:,}")
    try:
        return Draft(file, record, size, chats.tell(dialogue))
    except DataError as error:
        raise Unusable(UNFIT, error.sentence) from None


def size_of(dialogue: Dialogue) -> int:
    """Return the bytes of all that a conversation says. Raises Unusable for half a character."""
    try:
        others = [dialogue.tools, dict(dialogue.variables), *(m.fields for m in dialogue.messages)]
        for text in strings_in(others):
            utf8_size(text)
        return sum(
            utf8_size(message.content) + utf8_size(message.reasoning or "")
            for message in dialogue.messages
        )
    except UnicodeEncodeError:
        raise Unusable("not UTF-8", "it holds half of a surrogate pair") from None


def read_encoding(
    draft: Draft, encoding: Encoding | DataError, eos_id: int
) -> tuple[Example, Encoding]:
    """Return an encoded example, ended by eos, and its encoding.

    Raises Unusable unless its spans tile the document: each answer has tokens, in their order.
    """
    if isinstance(encoding, DataError):
        raise Unusable(UNFIT, encoding.sentence)
    turns = turns_of(encoding, draft.told.spans)
    spoken = turns[turns > 0].astype(np.int64)
    steps = np.diff(spoken, prepend=0)
    is_tiled = np.isin(steps, (0, 1)).all() and turns[-1] == len(draft.told.spans)
    if not is_tiled or (np.diff(encoding.starts) < 0).any():
        raise Unusable(UNFIT, "the answers cannot be told apart by their tokens")
    example = Example(encoding.ids, turns)
    return end_with_eos(example, eos_id, len(draft.told.spans)), encoding


def turns_of(encoding: Encoding, spans: Sequence[tuple[int, int]]) -> NDArray[np.uint16]:
    """Return the turn of each token: k if it has a character of the k-th answer, else 0."""
    turns = np.zeros(len(encoding.ids), np.uint16)
    ends = np.maximum(encoding.ends, encoding.starts + 1)
    for turn, (begin, stop) in enumerate(spans, 1):
        turns[(encoding.starts < stop) & (ends > begin)] = turn
    return turns


def asked_of(chats: Chats, told: Told, encoding: Encoding, count: int) -> NDArray[np.bool_]:
    """Tell of the first `count` tokens of an example which are text of what it was asked."""
    asked = chats.asked(told, encoding) & (turns_of(encoding, told.spans) == 0)
    padded = np.zeros(max(count, len(asked)), bool)
    padded[: len(asked)] = asked
    return padded[:count]


def fit_to_row(example: Example, asked: Asked, eos_id: int, chat: ChatFormat) -> Example:
    """Return an example, cut if need be and asked for. Raises Unusable if it stays too long."""
    tokens = f"{len(example.ids):,} tokens"
    if chat.longest is None or len(example.ids) <= chat.longest:
        return example
    if chat.on_long == "drop":
        raise Unusable(TOO_LONG, tokens)
    fitting = make_fit(example, asked, chat.longest, eos_id)
    if fitting is None:
        raise Unusable(RESPONSE_TOO_LONG, tokens)
    return fitting
