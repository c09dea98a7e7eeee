"""Files of lines: a line is a document (`lines`), or a JSON object that holds one (others)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    RECORD_BYTES,
    BrokenInput,
    Chunk,
    Fault,
    Meter,
    Texts,
    bad_byte,
    end_chunk,
    fault_chunk,
    open_bytes,
    utf8_blocks,
    utf8_size,
)
from illada_core.decoding import decode_record

BYTE_ORDER_MARK = "\ufeff"

# Adds what one line holds to the result: its text without newline, the numbers of file and record.
LineReader = Callable[[Texts, str, int, int], None]


def line_chunks(number: int, source: Source, first: int, read_line: LineReader) -> Iterator[Chunk]:
    """Yield the chunks of a file of lines, from line `first` on (the first line is 0)."""
    with open_bytes(source) as file:
        meter = Meter(file)
        yield from chunks_of_lines(number, meter, utf8_blocks(meter, source), first, read_line)


def chunks_of_lines(
    number: int, meter: Meter, blocks: Iterable[bytes], first: int, read_line: LineReader
) -> Iterator[Chunk]:
    """Yield the chunks of lines that come in blocks, from line `first` on."""
    after = 0
    try:
        for line, after, data in whole_lines(blocks):
            if data is None:
                limit = f"over {RECORD_BYTES >> 20} MiB"
                fault = Fault(number, line, "too long", limit, line + 1)
                yield fault_chunk(fault, source_bytes=meter.advance())
            elif after > first:
                read = partial(read_lines, data, number, line, first, read_line)
                yield Chunk(read, len(data), meter.advance())
    except BrokenInput as error:
        while meter.read(CHUNK_BYTES):
            pass
        fault = Fault(number, after, "damaged", str(error), after + 1)
        yield fault_chunk(fault, meter.digest(number), meter.advance())
    else:
        yield end_chunk(meter.digest(number), meter.advance())


def whole_lines(blocks: Iterable[bytes]) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield runs of whole lines, with the numbers of the first and of the one after the last.

    A line over RECORD_BYTES is not kept: it comes alone, as None. If the blocks break off, so does
    the last line.
    """
    line = 0
    parts: list[bytes] = []
    held = 0
    for block in blocks:
        stop = block.rfind(b"\n") + 1
        if stop:
            begin = 0
            if held > RECORD_BYTES:
                yield line, line + 1, None
                line, begin = line + 1, block.find(b"\n") + 1
            data = b"".join([*parts, block[begin:stop]])
            after = line + data.count(b"\n")
            yield line, after, data
            line, parts, held = after, [], 0
        held += len(block) - stop
        if held <= RECORD_BYTES:
            parts.append(block[stop:])
        else:
            parts.clear()
    if held:
        yield line, line + 1, b"".join(parts) if held <= RECORD_BYTES else None


def read_lines(data: bytes, number: int, line: int, first: int, read_line: LineReader) -> Texts:
    """Read a run of lines that begins with number `line`, leaving out those before `first`."""
    result = Texts()
    lines = data.removesuffix(b"\n")
    try:
        texts = lines.decode().split("\n")
    except UnicodeDecodeError:
        for record, raw in enumerate(lines.split(b"\n"), line):
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                if record >= first:
                    fault = Fault(number, record, "not UTF-8", bad_byte(error), record + 1)
                    result.faults.append(fault)
                continue
            if record >= first:
                read_line(result, text, number, record)
        return result
    for record, text in enumerate(texts[max(first - line, 0) :], max(first, line)):
        read_line(result, text, number, record)
    return result


def read_plain_line(result: Texts, text: str, file: int, record: int) -> None:
    """Take a line as a document, without what ends it in Windows' files, or begins the file."""
    text = text.removesuffix("\r")
    text = text.removeprefix(BYTE_ORDER_MARK) if record == 0 else text
    if "\0" in text:
        fault = Fault(file, record, "binary", "it holds a zero byte", record + 1)
        result.faults.append(fault)
    else:
        result.add(text, file, record, utf8_size(text))


def read_example_line(result: Texts, text: str, file: int, record: int) -> None:
    """Take a line as it is, to be read by examples.py; blank lines are passed over."""
    if text and not text.isspace():
        text = text.removeprefix(BYTE_ORDER_MARK) if record == 0 else text
        result.add(text, file, record, utf8_size(text))


def read_json_line(key: str, result: Texts, text: str, file: int, record: int) -> None:
    """Take the text under `key` of a line's JSON object; blank lines are passed over."""

    def fault(reason: str, detail: str = "") -> None:
        result.faults.append(Fault(file, record, reason, detail, record + 1))

    if not text or text.isspace():
        return
    try:
        value = decode_record(text.removeprefix(BYTE_ORDER_MARK) if record == 0 else text)
        found = value[key]
        result.add(found, file, record, utf8_size(found))
    except UnicodeEncodeError:
        fault("not UTF-8", f'"{key}" holds half of a surrogate pair')
    except ValueError as error:
        fault("broken JSON", str(error))
    except KeyError:
        fault(f'no key "{key}"')
    except (TypeError, AttributeError):
        is_object = isinstance(value, dict)
        fault("no text", f'"{key}" is not a string' if is_object else "not a JSON object")
