"""What reading is made of: chunks, faults, digests, and the bytes of plain and compressed files.

A chunk is a promise of about a megabyte of text, kept by whoever calls its `read`: so decoding and
parsing happen in the workers. What cannot be read becomes a Fault in its place: the caller decides
whether that ends the work.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import zstandard

from illada_core.data.sources.listing import STDIN, UTF8, Source
from illada_core.places import is_url

CHUNK_BYTES = 1 << 20
RECORD_BYTES = 16 << 20  # a longer line or value is no document
WHOLE_BYTES = 8 << 20  # a larger text is checked first, then read again in pieces
NAMES_SHOWN = 20
INFLATE_BYTES = 8 << 10  # little at a time: one kilobyte of zstd may inflate to megabytes


@dataclass(frozen=True, slots=True)
class Fault:
    """A document that cannot be used: which, why in few words, and the details of this one.

    `record` counts documents within a file from 0, broken ones too; `line` counts lines, or the
    rows of a table, from 1, and is 0 where neither means anything.
    """

    file: int
    record: int
    reason: str
    detail: str = ""
    line: int = 0

    def text(self, sources: Sequence[Source]) -> str:
        """Say it as `file:line: reason (detail)`."""
        name = sources[self.file].name
        where = f"{name}:{self.line}" if self.line else name
        return f"{where}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file was, known when its last byte has been read."""

    file: int
    bytes: int
    sha256: str


@dataclass
class Texts:
    """The documents of a chunk, column by column, and what else came to light on the way.

    With `is_open` the last text is a piece of a document that goes on in the next chunk, with
    `is_rest` the first one goes on with a document. `sizes` are UTF-8 bytes.
    """

    texts: list[str] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    is_open: bool = False
    is_rest: bool = False
    faults: list[Fault] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)

    def add(self, text: str, file: int, record: int, size: int) -> None:
        """Append one document."""
        self.texts.append(text)
        self.files.append(file)
        self.records.append(record)
        self.sizes.append(size)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A promise of documents: `held_bytes` is about what it will hold in memory.

    `source_bytes` says how far in the sources it brings the reader.
    """

    read: Callable[[], Texts]
    held_bytes: int
    source_bytes: int


class BrokenInput(Exception):
    """A file that is damaged, cut off or not encoded as it should be; the text says which."""


class Meter:
    """A file open for reading that counts and hashes the bytes that pass."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.bytes = 0
        self.reported = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        data = self.file.read(size)
        self.bytes += len(data)
        self.sha256.update(data)
        return data

    def advance(self) -> int:
        """Return how many bytes passed since the last call."""
        passed = self.bytes - self.reported
        self.reported = self.bytes
        return passed

    def digest(self, file: int) -> Digest:
        """Return the digest of what passed."""
        return Digest(file, self.bytes, self.sha256.hexdigest())


def open_bytes(source: Source) -> BinaryIO:
    """Open a source without buffering: a pipe then gives what it has."""
    return open_path(0 if source.path == STDIN else source.path)


def open_path(path: str | int) -> BinaryIO:
    """Open a file without buffering, be it at a URL."""
    if isinstance(path, str) and is_url(path):
        from illada_core.remote import RemoteReader  # it loads fsspec

        return cast(BinaryIO, RemoteReader(path))
    return open(path, "rb", buffering=0)


@contextmanager
def local_file(source: Source) -> Iterator[str]:
    """Give a file for libraries that want one: the source, or a copy of one at a URL."""
    if not source.is_remote:
        yield source.path
        return
    with tempfile.NamedTemporaryFile() as copy:
        with open_bytes(source) as file:
            shutil.copyfileobj(file, copy, CHUNK_BYTES)
        copy.flush()
        yield copy.name


def open_twice_readable(source: Source) -> BinaryIO:
    """Open a source so that it can be read again from its start: what comes is copied first."""
    if not source.is_stream and not source.is_remote:
        return open_bytes(source)
    # SIM115: the caller closes it.
    copy = tempfile.SpooledTemporaryFile(max_size=WHOLE_BYTES)  # noqa: SIM115
    with open_bytes(source) as stream:
        shutil.copyfileobj(stream, copy, CHUNK_BYTES)
    copy.seek(0)
    return cast(BinaryIO, copy)


def inflate_blocks(meter: Meter, compression: str) -> Iterator[bytes]:
    """Yield what a file holds in blocks of about CHUNK_BYTES; BrokenInput at the first damage."""
    match compression:
        case ".gz":
            yield from inflate_gzip(meter)
        case ".zst":
            yield from inflate_zstd(meter)
        case _:
            while block := meter.read(CHUNK_BYTES):
                yield block


def utf8_blocks(meter: Meter, source: Source) -> Iterator[bytes]:
    """Yield what a file holds in blocks of UTF-8, whatever it is encoded in."""
    blocks = inflate_blocks(meter, source.compression)
    if source.encoding == UTF8:
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(source.encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise BrokenInput(f"not {source.encoding}: {reason_of(error)}") from error


def recoded(data: bytes, encoding: str) -> bytes:
    """Return a whole file as UTF-8. BrokenInput if it is not encoded so."""
    if encoding == UTF8:
        return data
    try:
        return data.decode(encoding).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise BrokenInput(f"not {encoding}: {reason_of(error)}") from error


def decoded_blocks(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield UTF-8 as text; BrokenInput for what is none."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in blocks:
            yield decoder.decode(block)
        yield decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        raise BrokenInput(f"not UTF-8: {bad_byte(error)}") from error


def reason_of(error: UnicodeError) -> str:
    """Say what an encoding does not allow."""
    return bad_byte(error) if isinstance(error, UnicodeDecodeError) else str(error)


def inflate_gzip(meter: Meter) -> Iterator[bytes]:
    """Yield the inflated blocks of all members of a gzip file."""
    try:
        with gzip.GzipFile(fileobj=meter) as file:  # type: ignore[call-overload]
            while block := file.read(CHUNK_BYTES):
                yield block
    except EOFError as error:
        raise BrokenInput("the file is cut off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BrokenInput("not valid gzip") from error


def inflate_zstd(meter: Meter) -> Iterator[bytes]:
    """Yield the inflated blocks of all frames of a zstd file."""
    # The stream reader of zstandard takes a file that is cut off for one that ends.
    between_frames, frame = True, zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    size = 0
    try:
        while data := meter.read(INFLATE_BYTES):
            while data:
                parts.append(frame.decompress(data))
                size += len(parts[-1])
                data, between_frames = frame.unused_data, frame.eof
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    except zstandard.ZstdError as error:
        yield b"".join(parts)
        raise BrokenInput("not valid zstd") from error
    yield b"".join(parts)
    if not between_frames:
        raise BrokenInput("the file is cut off")


def fault_chunk(fault: Fault, digest: Digest | None = None, source_bytes: int = 0) -> Chunk:
    """Return a chunk that holds nothing but a fault, and a digest if its file ends with it."""
    return chunk_of(Texts(faults=[fault], digests=[digest] if digest else []), source_bytes)


def end_chunk(digest: Digest, source_bytes: int = 0) -> Chunk:
    """Return a chunk that holds no document: its file has ended."""
    return chunk_of(Texts(digests=[digest]), source_bytes)


def chunk_of(texts: Texts, source_bytes: int = 0) -> Chunk:
    """Return a chunk whose promise is kept already."""
    return Chunk(lambda: texts, sum(texts.sizes), source_bytes)


def missing_column(number: int, key: str, names: Sequence[str]) -> Fault:
    """Say that a table has no such column, and which it has."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:NAMES_SHOWN]]
    rest = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return Fault(number, 0, f'no column "{key}"', f"there are: {', '.join(shown)}{rest}")


def why(error: OSError) -> str:
    """Say in few words why a file cannot be read."""
    return (error.strerror or str(error) or type(error).__name__).splitlines()[0].lower()


def bad_byte(error: UnicodeDecodeError) -> str:
    """Name the byte that UTF-8 does not allow."""
    return f"byte 0x{error.object[error.start]:02x}"


def utf8_size(text: str) -> int:
    """Return the length of a text in UTF-8; UnicodeEncodeError if UTF-8 cannot hold it."""
    return len(text) if text.isascii() else len(text.encode())
