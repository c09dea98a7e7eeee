"""The bytes of a shard: tokens of two or three bytes, zstd frames, the index, the seek table.

docs/formats.md is the specification. Nothing here opens a file: see shards.py.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from illada_core.arrays import Ids
from illada_core.decoding import Count, decode_json, shaped, shown
from illada_core.errors import DataError

SHARD_VERSION = 1
FRAME_TOKENS = 131_072
LEVEL = 3  # 3-9 % smaller than level 1, 4-7 % larger than level 9 at four times its speed
UINT16_VOCABULARY = 65_536

SKIPPABLE_HEADER = struct.Struct("<II")  # magic, size of what follows
INDEX_MAGIC = 0x184D2A5A
INDEX_HEADER_SIZE = struct.Struct("<I")
# A token is the end of a document, a segment, a row and a span at most: ten arrays of 8 bytes.
INDEX_HEADER_BYTES, INDEX_BYTES_A_TOKEN = 1 << 20, 80
# Sources and offsets of documents differ: real indexes inflate to ten times their size.
INDEX_INFLATION = 256
SEEK_TABLE_MAGIC = 0x184D2A5E
SEEK_TABLE_ENTRY = struct.Struct("<II")  # compressed size, inflated size
SEEK_TABLE_FOOTER = struct.Struct("<IBI")  # entries, descriptor, magic
SEEKABLE_MAGIC = 0x8F92EAB1

NO_NUMBERS = np.empty(0, np.uint64)
Stored: TypeAlias = NDArray[np.uint8]  # tokens as on disk, 2 or 3 bytes each
FrameSizes: TypeAlias = list[tuple[int, int]]  # compressed, inflated
Mapper: TypeAlias = Callable[..., Iterable[Any]]  # map, or the map of a pool of threads


@dataclass(frozen=True)
class IndexHeader:
    """What the index of a shard says before its arrays, which it names with their lengths."""

    version: int
    job: str
    tokens: Count
    token_bytes: Count
    arrays: list[tuple[str, Count]]


def token_bytes_of(vocab_size: int) -> int:
    """Return how many bytes a stored token takes: 2 when every id fits, else 3."""
    return 2 if vocab_size <= UINT16_VOCABULARY else 3


def narrow(ids: Ids, token_bytes: int) -> Stored:
    """Lay ids out as they are stored: little-endian, `token_bytes` each."""
    if token_bytes == 2:
        return ids.astype("<u2").view(np.uint8)
    # Four bytes to every third place: each word carries the low byte of the next token where the
    # next word begins, so that the words agree on what they share, whichever is written first.
    stored = np.empty(3 * len(ids) + 1, np.uint8)
    words = np.ndarray((len(ids),), "<u4", stored.data, strides=(3,))
    agreeing = np.left_shift(ids[1:], 24)
    agreeing |= ids[:-1]
    words[:-1] = agreeing
    words[-1:] = ids[-1:]
    return stored[:-1]


def widen(stored: Stored, token_bytes: int) -> Ids:
    """Turn stored tokens into uint32 ids."""
    if token_bytes == 2:
        return stored.view("<u2").astype(np.uint32)
    ids = np.zeros(len(stored) // 3, np.uint32)
    if len(ids):
        ids[-1:].view(np.uint8)[:3] = stored[-3:]
        # Overlapping four-byte reads, three bytes apart: five times faster than copying by bytes.
        overlapping: Ids = np.ndarray((len(ids) - 1,), "<u4", stored.data, strides=(3,))
        np.bitwise_and(overlapping, 0xFFFFFF, out=ids[:-1])
    return ids


class Codec(threading.local):
    """The zstd contexts of one thread: making them anew for each frame costs 5-15 %."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()
        self.of_tokens = {width: compressor_of_tokens(width) for width in (2, 3)}


def compressor_of_tokens(token_bytes: int) -> zstandard.ZstdCompressor:
    """Return a compressor for which a match has two tokens at least.

    With tables that stay in the second cache, three-byte tokens come out a little smaller than by
    the plain level, and a fifth faster.
    """
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        source_size=FRAME_TOKENS * token_bytes,
        min_match=2 * token_bytes,
        hash_log=15,
        chain_log=15,
        write_checksum=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


CODEC = Codec()


def compress(data: bytes | memoryview) -> bytes:
    """Return one zstd frame with its content size and checksum."""
    return CODEC.compressor.compress(data)


def compress_tokens(token_bytes: int, stored: memoryview) -> bytes:
    """Return one zstd frame of tokens in stored form."""
    return CODEC.of_tokens[token_bytes].compress(stored)


def inflate(frame: bytes, least_bytes: int, most_bytes: int) -> bytes:
    """Return what one zstd frame holds; DataError if it is damaged or of another size.

    The size it promises is read first: no file may ask for more memory than it can have use for.
    """
    try:
        promised = zstandard.get_frame_parameters(frame).content_size
        if not least_bytes <= promised <= most_bytes:
            raise DataError(f"it promises {promised} bytes where {most_bytes} belong at most")
        return CODEC.decompressor.decompress(frame)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DataError("it does not inflate, or its checksum is wrong") from error


def pack_seek_table(sizes: FrameSizes) -> bytes:
    """Return the skippable frame that closes a file in the zstd seekable format."""
    entries = b"".join(SEEK_TABLE_ENTRY.pack(*size) for size in sizes)
    footer = SEEK_TABLE_FOOTER.pack(len(sizes), 0, SEEKABLE_MAGIC)
    return SKIPPABLE_HEADER.pack(SEEK_TABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def seek_table_bytes(footer: bytes) -> int:
    """Return how long the seek table is that ends with these SEEK_TABLE_FOOTER.size bytes."""
    count, descriptor, magic = SEEK_TABLE_FOOTER.unpack(footer)
    if magic != SEEKABLE_MAGIC or descriptor != 0:
        raise DataError("it does not end with a seek table: it is no shard, or cut off")
    return int(SKIPPABLE_HEADER.size + count * SEEK_TABLE_ENTRY.size + SEEK_TABLE_FOOTER.size)


def unpack_seek_table(table: bytes, file_bytes: int) -> FrameSizes:
    """Return the sizes of every frame; DataError unless they add up to the file."""
    magic, size = SKIPPABLE_HEADER.unpack_from(table)
    entries = table[SKIPPABLE_HEADER.size : -SEEK_TABLE_FOOTER.size]
    sizes = list(SEEK_TABLE_ENTRY.iter_unpack(entries))
    total = sum(compressed for compressed, _ in sizes) + len(table)
    if magic != SEEK_TABLE_MAGIC or size != len(table) - SKIPPABLE_HEADER.size:
        raise DataError("its seek table is damaged")
    if total != file_bytes or not sizes or sizes[-1][1] != 0:
        raise DataError("its seek table does not fit the file")
    return sizes


def pack_index(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return the skippable frame that holds a JSON header and named arrays of uint64."""
    described = {**header, "arrays": [[name, len(array)] for name, array in arrays.items()]}
    text = json.dumps(described, sort_keys=True).encode()
    columns = [array.astype("<u8").tobytes() for array in arrays.values()]
    frame = compress(b"".join([INDEX_HEADER_SIZE.pack(len(text)), text, *columns]))
    return SKIPPABLE_HEADER.pack(INDEX_MAGIC, len(frame)) + frame


def unpack_index(
    skippable: bytes, tokens: int
) -> tuple[IndexHeader, dict[str, NDArray[np.uint64]]]:
    """Return the header and the arrays of the index of `tokens` tokens; DataError if damaged."""
    if SKIPPABLE_HEADER.unpack_from(skippable) != (
        INDEX_MAGIC,
        len(skippable) - SKIPPABLE_HEADER.size,
    ):
        raise DataError("it does not begin as an index does")
    held = min(INDEX_BYTES_A_TOKEN * tokens, INDEX_INFLATION * len(skippable))
    most_bytes = INDEX_HEADER_BYTES + held
    payload = inflate(skippable[SKIPPABLE_HEADER.size :], 0, most_bytes)
    try:
        start = INDEX_HEADER_SIZE.size + INDEX_HEADER_SIZE.unpack_from(payload)[0]
        fields = shaped(decode_json(payload[INDEX_HEADER_SIZE.size : start]), dict[str, Any])
        if fields.get("version") != SHARD_VERSION:
            found = shown(fields.get("version"))
            raise DataError(f"its format version is {found}, not {SHARD_VERSION}")
        header: IndexHeader = shaped(fields, IndexHeader)
        arrays = {}
        for name, count in header.arrays:
            arrays[name] = np.frombuffer(payload, "<u8", count, start) if count else NO_NUMBERS
            start += 8 * count
    except (ValueError, struct.error) as error:
        raise DataError(f"its header is damaged ({error})") from error
    return header, arrays
