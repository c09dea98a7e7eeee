"""Ids as JSON Lines on stdout, and back to text: `illada tokenize` in a shell pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from illada_cli import ui
from illada_cli.corpus import worker_count
from illada_cli.tokenize.options import TokenizeOptions
from illada_core.data.build.encoding import Encoded, encode_chunks, encode_texts
from illada_core.data.build.events import leave_out
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import STDIN, Source, list_sources
from illada_core.data.store.dataset import open_dataset
from illada_core.data.store.views import MANIFEST, pull
from illada_core.decoding import decode_json
from illada_core.errors import DataError
from illada_core.places import path_of
from illada_core.text.tokenizer import Tokenizer


def print_ids(sources: Sequence[Source], tokenizer: Tokenizer, asked: TokenizeOptions) -> None:
    """Print the ids of each document as a line of JSON, without an end token."""
    chunks = corpus_chunks(sources, asked.text_key, is_clean=tokenizer.cuts_cleanly)
    encoded: Iterator[Encoded]
    if any(source.is_stream for source in sources):  # the ids of a line follow it at once
        encoded = (encode_texts(chunk.read(), 0, tokenizer, None) for chunk in chunks)
    else:
        encode = partial(encode_texts, tokenizer=tokenizer, eos_id=None)
        encoded = encode_chunks(chunks, encode, worker_count(asked.workers))
    for notice in tokenizer.files.notices:
        asked.talk.say(notice)
    begun, unknown = np.empty(0, np.uint32), 0
    for part in encoded:
        unknown += part.unknown
        ids, start = np.concatenate([begun, part.ids]), 0
        places = list(zip(part.files.tolist(), part.records.tolist(), strict=True))
        first_fault = min(((fault.file, fault.record) for fault in part.faults), default=None)
        for place, end in zip(places, (part.ends + len(begun)).tolist(), strict=True):
            if first_fault and place > first_fault and asked.on_error == "stop":
                break
            print_document(ids[start:end].tolist(), sources[place[0]].name, place[1], asked.as_json)
            start = end
        begun = ids[start:]
        sys.stdout.flush()
        for fault in part.faults:
            asked.talk.say(f"left out: {leave_out(fault, sources, asked.on_error).text}")
    if unknown:
        asked.talk.say(tokenizer.tell_unknown(unknown))


def print_document(numbers: list[int], name: str, record: int, as_json: bool) -> None:
    """Print the ids of one document."""
    described = {"file": name, "record": record, "ids": numbers} if as_json else numbers
    sys.stdout.write(json.dumps(described) + "\n")


def print_texts(asked: TokenizeOptions, tokenizer: Tokenizer) -> None:
    """Print the text of lines of ids, or of the documents of a dataset.

    The format says how: back to back, a document a line, or in JSON objects.
    """
    inputs, wanted = asked.inputs, "jsonl" if asked.as_json else asked.format
    folder = path_of(inputs[0])
    pull(folder)
    is_dataset = len(inputs) == 1 and (folder / MANIFEST).exists()
    documents = ids_of_dataset(folder) if is_dataset else ids_of_lines(inputs)
    is_terminal = sys.stdout.isatty()
    is_followed = STDIN in inputs  # the text of a line follows it at once
    for numbers in documents:
        text = tokenizer.decode(numbers, keep_special=True)
        if wanted == "jsonl":
            text = json.dumps({asked.text_key: text}, ensure_ascii=False)
        shown = ui.printable(text) if is_terminal else text
        sys.stdout.buffer.write(shown.encode() + (b"" if wanted in ("auto", "text") else b"\n"))
        if is_followed:
            sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()


def ids_of_lines(inputs: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids in each line of JSON: an array, or an object with an array under "ids"."""
    sources = list_sources(inputs, "lines")
    for chunk in corpus_chunks(sources, ""):
        texts = chunk.read()
        for fault in texts.faults:
            leave_out(fault, sources, "stop")
        for text, file, record in zip(texts.texts, texts.files, texts.records, strict=True):
            if text.strip():
                yield parse_ids(text, f"{sources[file].name}:{record + 1}")


def parse_ids(line: str, where: str) -> list[int]:
    """Read the ids of one line; DataError if it holds anything else."""
    try:
        value = decode_json(line)
    except ValueError:
        value = None
    numbers = value.get("ids") if isinstance(value, dict) else value
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise DataError(
            f"{where}: not a JSON array of ids", 'a line is [1, 2, 3] or {"ids": [1, 2, 3]}'
        )
    return numbers


def ids_of_dataset(folder: Path) -> Iterator[list[int]]:
    """Yield the ids of each document of a dataset, without the token that ends it."""
    dataset = open_dataset(folder)
    if dataset.manifest.kind != "documents":
        raise DataError(f"{folder} holds packed rows", "decode the dataset of documents instead")
    start = 0
    for ends in dataset.document_ends():
        for end in ends.tolist():
            yield dataset.read(start, end - 1).tolist()
            start = end
