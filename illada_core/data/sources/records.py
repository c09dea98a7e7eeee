"""Files of JSON records: objects a line, or one array of objects, told apart by how they begin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain

from illada_core.data.sources.lines import BYTE_ORDER_MARK, LineReader, chunks_of_lines
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    RECORD_BYTES,
    BrokenInput,
    Chunk,
    Fault,
    Meter,
    Texts,
    decoded_blocks,
    end_chunk,
    fault_chunk,
    open_bytes,
    utf8_blocks,
)
from illada_core.decoding import IncompleteJson, end_of_value

SPACE = " \t\r\n"
SPACES = re.compile(f"[{SPACE}]+")


def record_chunks(
    number: int, source: Source, first: int, read_record: LineReader
) -> Iterator[Chunk]:
    """Yield the chunks of a file of JSON records, from record `first` on."""
    with open_bytes(source) as file:
        meter = Meter(file)
        blocks = utf8_blocks(meter, source)
        begun: list[bytes] = []
        try:
            begun = [block for block in [next(blocks, b"")] if block]
        except BrokenInput as error:
            blocks = broken(error)
        whole = chain(begun, blocks)
        if is_array(b"".join(begun)):
            yield from array_chunks(number, meter, decoded_blocks(whole), first, read_record)
        else:
            yield from chunks_of_lines(number, meter, whole, first, read_record)


def broken(error: BrokenInput) -> Iterator[bytes]:
    """Yield nothing, and raise the error where the blocks would be read."""
    raise error
    yield b""


def is_array(beginning: bytes) -> bool:
    """Tell whether a file begins as an array of objects."""
    text = beginning.removeprefix(BYTE_ORDER_MARK.encode()).lstrip(SPACE.encode())
    return text[:1] == b"[" and text[1:].lstrip(SPACE.encode())[:1] == b"{"


def array_chunks(
    number: int, meter: Meter, blocks: Iterator[str], first: int, read_record: LineReader
) -> Iterator[Chunk]:
    """Yield the chunks of an array; after something that is no JSON nothing more can be read."""
    items: list[str] = []
    record, held = 0, 0
    fault = None
    try:
        for item in array_items(blocks):
            record += 1
            if record > first:
                items.append(item)
                held += len(item)
            if held >= CHUNK_BYTES:
                read = partial(read_items, items, number, record - len(items), read_record)
                yield Chunk(read, held, meter.advance())
                items, held = [], 0
    except (ValueError, BrokenInput) as error:
        reason = "damaged" if isinstance(error, BrokenInput) else "broken JSON"
        fault = Fault(number, record, reason, str(error), record + 1)
        while meter.read(CHUNK_BYTES):
            pass
    if items:
        read = partial(read_items, items, number, record - len(items), read_record)
        yield Chunk(read, held, meter.advance())
    if fault:
        yield fault_chunk(fault, meter.digest(number), meter.advance())
    else:
        yield end_chunk(meter.digest(number), meter.advance())


def read_items(items: list[str], number: int, record: int, read_record: LineReader) -> Texts:
    """Read items of an array, of which the first has the number `record`."""
    result = Texts()
    for place, item in enumerate(items, record):
        read_record(result, item, number, place)
    return result


def array_items(blocks: Iterator[str]) -> Iterator[str]:
    """Yield the items of an array of objects as JSON. ValueError for what is none."""
    text, more = next(blocks).removeprefix(BYTE_ORDER_MARK), True
    at = after_space(text, 0) + 1
    while True:
        at = after_space(text, at)
        if text[at : at + 1] == "]":
            rest = text[at + 1 :] + "".join(blocks)
            if rest.strip(SPACE):
                raise ValueError("something follows the array")
            return
        try:
            end = end_of_value(text, at)
        except IncompleteJson:
            if not more or len(text) - at > RECORD_BYTES:
                raise
            following = ""
        else:
            after = after_space(text, end)
            following = text[after : after + 1]
        if following in (",", "]") and following:
            yield text[at:end]
            at = after + (following == ",")
            continue
        if following:
            raise ValueError("a comma is missing between two items")
        if not more:
            raise ValueError("the array is cut off")
        block = next(blocks, None)
        more, text, at = block is not None, text[at:] + (block or ""), 0


def after_space(text: str, at: int) -> int:
    """Return the first place from `at` on that is no space."""
    found = SPACES.match(text, at)
    return found.end() if found else at
