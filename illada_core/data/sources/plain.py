"""Plain text: a file of any suffix is one document, however large, compressed or not."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial

from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    WHOLE_BYTES,
    BrokenInput,
    Chunk,
    Digest,
    Fault,
    Meter,
    Texts,
    bad_byte,
    decoded_blocks,
    end_chunk,
    fault_chunk,
    open_bytes,
    open_twice_readable,
    recoded,
    utf8_blocks,
    why,
)
from illada_core.text.cutting import IsClean, cut_text


def read_small_files(files: Sequence[tuple[int, Source]]) -> Texts:
    """Read whole files, each one document."""
    result = Texts()
    for number, source in files:
        try:
            data = read_whole(source)
        except OSError as error:
            result.faults.append(Fault(number, 0, "cannot be read", why(error)))
            result.digests.append(Digest(number, source.bytes, ""))
            continue
        result.digests.append(Digest(number, len(data), hashlib.sha256(data).hexdigest()))
        try:
            add_text(result, recoded(data, source.encoding), number)
        except BrokenInput as error:
            result.faults.append(Fault(number, 0, "damaged", str(error)))
    return result


def read_whole(source: Source) -> bytes:
    """Return all bytes of a small file, also if its size has changed since it was listed."""
    if source.is_remote:
        with open_bytes(source) as file:
            return b"".join(iter(lambda: file.read(WHOLE_BYTES), b""))
    # A third faster than `open` and `read`, which matters for a corpus of small files.
    descriptor = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, source.bytes + 1):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def add_text(result: Texts, data: bytes, number: int) -> None:
    """Append a file's text as one document, or the fault it has."""
    zero = data.find(0)
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        result.faults.append(Fault(number, 0, "binary", "it holds a zero byte", line))
        return
    try:
        result.add(data.decode(), number, 0, len(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        result.faults.append(Fault(number, 0, "not UTF-8", bad_byte(error), line))


def large_text(number: int, source: Source, is_clean: IsClean | None = None) -> Iterator[Chunk]:
    """Yield the chunks of a text that is compressed or large; faults are found before any text."""
    with open_twice_readable(source) as file:
        meter = Meter(file)
        blocks: list[bytes] = []
        size = 0
        fault = None
        check = TextCheck(number)
        try:
            for block in utf8_blocks(meter, source):
                size += len(block)
                if size <= WHOLE_BYTES:
                    blocks.append(block)
                else:
                    blocks.clear()
                fault = fault or check.feed(block)
            fault = fault or check.finish()
        except BrokenInput as error:
            fault = Fault(number, 0, "damaged", str(error))
        while meter.read(CHUNK_BYTES):
            pass
        digest = meter.digest(number)
        if fault:
            yield fault_chunk(fault, digest, meter.bytes)
        elif size <= WHOLE_BYTES:
            data = b"".join(blocks)
            yield Chunk(partial(whole_text, data, number, digest), size, meter.bytes)
        else:
            file.seek(0)
            yield from giant_text(number, source, Meter(file), digest, is_clean)


def text_digest(number: int, source: Source) -> Iterator[Chunk]:
    """Yield the digest of a text whose document is done already."""
    with open_bytes(source) as file:
        meter = Meter(file)
        while meter.read(CHUNK_BYTES):
            pass
        yield end_chunk(meter.digest(number), meter.bytes)


class TextCheck:
    """Whether a long text is UTF-8 without zero bytes, block by block."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.lines = 1

    def feed(self, block: bytes, final: bool = False) -> Fault | None:
        """Check one block; return the fault that makes the text useless, if there is one."""
        if (zero := block.find(0)) >= 0:
            line = self.lines + block.count(b"\n", 0, zero)
            return Fault(self.number, 0, "binary", "it holds a zero byte", line)
        held = len(self.decoder.getstate()[0])
        try:
            self.decoder.decode(block, final)
        except UnicodeDecodeError as error:
            line = self.lines + block.count(b"\n", 0, max(error.start - held, 0))
            return Fault(self.number, 0, "not UTF-8", bad_byte(error), line)
        self.lines += block.count(b"\n")
        return None

    def finish(self) -> Fault | None:
        """Check that the text does not end within a character."""
        return self.feed(b"", final=True)


def whole_text(data: bytes, number: int, digest: Digest) -> Texts:
    """Return one document from all of its bytes."""
    result = Texts(digests=[digest])
    add_text(result, data, number)
    return result


def giant_text(
    number: int, source: Source, meter: Meter, digest: Digest, is_clean: IsClean | None
) -> Iterator[Chunk]:
    """Yield a checked text piece by piece, as one document."""
    pieces = cut_text(decoded_blocks(utf8_blocks(meter, source)), is_clean)
    before, is_rest = next(pieces), False
    for piece in pieces:
        read = partial(giant_piece, before, number, is_rest, None)
        yield Chunk(read, len(before), meter.advance())
        before, is_rest = piece, True
    read = partial(giant_piece, before, number, is_rest, digest)
    yield Chunk(read, len(before), meter.advance())


def giant_piece(piece: str, number: int, is_rest: bool, digest: Digest | None) -> Texts:
    """Return one piece of a document; the last one brings the digest."""
    digests = [digest] if digest else []
    result = Texts(is_open=digest is None, is_rest=is_rest, digests=digests)
    result.add(piece, number, 0, len(piece.encode()))
    return result
