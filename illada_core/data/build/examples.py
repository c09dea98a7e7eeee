"""Chat examples to documents: a line of JSON to messages, pieces, ids and whose turn each id is.

A document is one example in the tokenizer's chat template, ended by one eos. Each piece is encoded
by itself, so no token straddles two roles and no text becomes a control token. Errors are faults
of their line; what the dataset is made with is documents.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from illada_core.data.build.encoding import Encoded, Examples, encode_documents
from illada_core.data.build.fitting import ChatFormat, Example, end_with_eos, make_fit, pad
from illada_core.data.sources.reading import Fault, Texts, utf8_size
from illada_core.data.store.turns import MOST_TURNS
from illada_core.errors import DataError
from illada_core.text.chat_template import Message, Piece, parse_messages
from illada_core.text.conversations import example_pieces
from illada_core.text.tokenizer import Tokenizer

# Left out because it was asked for: no faults of their lines.
TOO_LONG, RESPONSE_TOO_LONG = "longer than a row", "response too long for a row"
UNFIT = "unfit for the chat template"
ASSISTANT, SYSTEM, USER = "assistant", "system", "user"


@dataclass(frozen=True)
class Draft:
    """An example before its text is encoded: its pieces, and the turn of each."""

    file: int
    record: int
    size: int
    pieces: list[Piece]
    turns: list[int]


class Unusable(Exception):
    """A line that is no example; `reason` in few words, and the details of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail

    def fault(self, file: int, record: int) -> Fault:
        """Return the fault of the line: records are lines."""
        return Fault(file, record, self.reason, self.detail, record + 1)


def encode_examples(
    texts: Texts, source_bytes: int, tokenizer: Tokenizer, eos_id: int, chat: ChatFormat
) -> Encoded:
    """Encode the examples of one chunk, whose texts are lines of JSON."""
    faults, drafts = list(texts.faults), []
    for line, file, record in zip(texts.texts, texts.files, texts.records, strict=True):
        try:
            drafts.append(read_draft(line, file, record, tokenizer))
        except Unusable as error:
            faults.append(error.fault(file, record))
    kept, examples, cut = [], [], []
    for draft, example in zip(drafts, encode_drafts(drafts, tokenizer), strict=True):
        whole = end_with_eos(example, eos_id, max(draft.turns))
        try:
            fitting = fit_to_row(whole, eos_id, chat)
        except Unusable as error:
            faults.append(error.fault(draft.file, draft.record))
            continue
        kept.append(draft)
        examples.append(pad(fitting, eos_id, chat))
        cut.append(fitting is not whole)
    return Encoded(
        ids=np.concatenate([np.empty(0, np.uint32), *(example.ids for example in examples)]),
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
        ),
    )


def read_draft(line: str, file: int, record: int, tokenizer: Tokenizer) -> Draft:
    """Read one line and put it into the tokenizer's template. Raises Unusable."""
    messages = read_messages(line)
    try:
        size = sum(utf8_size(message.content) for message in messages)
    except UnicodeEncodeError:
        raise Unusable("not UTF-8", "it holds half of a surrogate pair") from None
    try:
        pieces = example_pieces(tokenizer, messages)
    except DataError as error:
        raise Unusable(UNFIT, error.sentence) from None
    pieces = drop_blank_end(pieces)
    turns = turns_of_pieces(pieces, messages, tokenizer.special.bos)
    return Draft(file, record, size, pieces, turns)


def read_messages(line: str) -> list[Message]:
    """Return the conversation that a line of JSON holds. Raises Unusable."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise Unusable("broken JSON", f"{error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise Unusable("broken JSON", str(error)) from None
    try:
        messages = parse_messages(messages_in(value))
    except DataError as error:
        raise Unusable("no example", error.sentence) from None
    check_roles(messages)
    empty = [message for message in messages if message.role == ASSISTANT and is_blank(message)]
    if empty:
        raise Unusable("empty response")
    return messages


def messages_in(value: Any) -> Any:
    """Return the messages that an object names, or makes of a prompt and a response."""
    if not isinstance(value, dict):
        raise Unusable("no example", "not a JSON object")
    if "messages" in value:
        return value["messages"]
    if not {"prompt", "response"} <= value.keys():
        raise Unusable("no example", "neither messages nor prompt and response")
    for key in ("prompt", "response"):
        if not isinstance(value[key], str):
            raise Unusable("no example", f'"{key}" is not a string')
    return [
        {"role": USER, "content": value["prompt"]},
        {"role": ASSISTANT, "content": value["response"]},
    ]


def check_roles(messages: Sequence[Message]) -> None:
    """Raise Unusable unless user and assistant alternate, a system message only comes first."""
    spoken = messages[messages[0].role == SYSTEM :]
    for number, message in enumerate(spoken):
        wanted = ASSISTANT if number % 2 else USER
        if message.role != wanted:
            place = len(messages) - len(spoken) + number
            raise Unusable("roles out of order", f"message {place} is {message.role}, not {wanted}")
    if len(spoken) % 2 or not spoken:
        raise Unusable("roles out of order", "the last message is not assistant")
    if len(spoken) // 2 > MOST_TURNS:
        raise Unusable("too many responses", f"over {MOST_TURNS:,}")


def is_blank(message: Message) -> bool:
    """Tell whether a message says nothing."""
    return not message.content or message.content.isspace()


def drop_blank_end(pieces: list[Piece]) -> list[Piece]:
    """Drop the white space in which a template waits for the next turn: none will come."""
    last = len(pieces)
    while last and pieces[last - 1].turn is None and pieces[last - 1].text.isspace():
        last -= 1
    return pieces[:last]


def turns_of_pieces(
    pieces: Sequence[Piece], messages: Sequence[Message], bos_id: int | None
) -> list[int]:
    """Return the turn of each piece: k for the k-th response with what ends it, else 0.

    A response ends with the first control token after its text, unless that is bos or another
    message comes first; all that follows the last response is its end. A response whose text the
    template takes apart, such as an earlier one without its thinking, has no turn: it is prompt.
    Raises Unusable if that is the last one.
    """
    turns = [0] * len(pieces)
    turn = first = 0
    speaker: int | None = None
    is_open = False
    for place, piece in enumerate(pieces):
        if piece.turn is not None and messages[piece.turn].role != ASSISTANT:
            speaker, is_open = None, False
        elif piece.turn is not None:
            if piece.turn != speaker:
                speaker, turn, first = piece.turn, turn + 1, place
            turns[first : place + 1] = [turn] * (place + 1 - first)
            is_open = True
        elif piece.control_id is not None and is_open:
            if piece.control_id != bos_id:
                turns[first : place + 1] = [turn] * (place + 1 - first)
            is_open = False
    if speaker != len(messages) - 1:
        raise Unusable(UNFIT, "the template leaves out the last response")
    turns[first:] = [turn] * (len(pieces) - first)
    return turns


def encode_drafts(drafts: Sequence[Draft], tokenizer: Tokenizer) -> list[Example]:
    """Encode the text of all drafts at once, each piece by itself."""
    texts = [piece.text for draft in drafts for piece in draft.pieces if piece.control_id is None]
    ids, ends = encode_documents(texts, tokenizer)
    parts = iter(np.split(ids, ends[:-1]))
    examples = []
    for draft in drafts:
        found = [
            next(parts) if piece.control_id is None else np.array([piece.control_id], np.uint32)
            for piece in draft.pieces
        ]
        turns = np.array(draft.turns, np.uint16)
        asked = np.array([piece.turn is not None for piece in draft.pieces]) & (turns == 0)
        counts = [len(part) for part in found]
        ids = np.concatenate(found).astype(np.uint32)
        examples.append(Example(ids, np.repeat(turns, counts), np.repeat(asked, counts)))
    return examples


def fit_to_row(example: Example, eos_id: int, chat: ChatFormat) -> Example:
    """Return an example, cut if need be and asked for. Raises Unusable if it stays too long."""
    tokens = f"{len(example.ids):,} tokens"
    if chat.longest is None or len(example.ids) <= chat.longest:
        return example
    if chat.on_long == "drop":
        raise Unusable(TOO_LONG, tokens)
    fitting = make_fit(example, chat.longest, eos_id)
    if fitting is None:
        raise Unusable(RESPONSE_TOO_LONG, tokens)
    return fitting
