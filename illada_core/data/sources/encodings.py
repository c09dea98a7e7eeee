"""What text files are encoded in: UTF-8, as a person says, or as a detector finds file by file."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace

from illada_core.data.sources.beginnings import first_bytes
from illada_core.data.sources.listing import UTF8, Source
from illada_core.data.sources.reading import (
    BrokenInput,
    Meter,
    decoded_blocks,
    inflate_blocks,
    open_bytes,
)
from illada_core.errors import UsageError

AUTO = "auto"
# What texts that are said to be in these are in, as browsers take it: the same letters and more.
WIDER = {"ASCII": "cp1252", "ISO-8859-1": "cp1252", "ISO-8859-9": "cp1254", "GB2312": "gb18030"}
IN_UTF8 = ("parquet", "arrow", "hub")  # whatever a person says


def in_encoding(sources: Sequence[Source], name: str) -> list[Source]:
    """Return sources with what they are encoded in: `name`, or for "auto" what each seems to be.

    UsageError for a name that Python does not know.
    """
    if name == AUTO:
        return [replace(source, encoding=detected(source)) for source in sources]
    encoding = known_encoding(name)
    return [
        source if source.layout in IN_UTF8 else replace(source, encoding=encoding)
        for source in sources
    ]


def known_encoding(name: str) -> str:
    """Return an encoding by the name that all its names share; UsageError if it is none of text."""
    try:
        "".encode(name)
        encoding = codecs.lookup(name).name
    except (LookupError, ValueError):
        raise UsageError(
            f"there is no encoding {name!r}", "such as utf-8, utf-16, cp1252 or auto"
        ) from None
    return UTF8 if encoding == UTF8 else encoding


def detected(source: Source) -> str:
    """Return what a file is encoded in: UTF-8 if it can be, else what the detector says."""
    if source.layout in IN_UTF8 or source.is_stream:
        return UTF8
    beginning = first_bytes(source.path, source.compression)
    try:
        with open_bytes(source) as file:
            blocks = decoded_blocks(inflate_blocks(Meter(file), source.compression))
            if b"\0" not in beginning and all(text is not None for text in blocks):
                return UTF8
    except (BrokenInput, OSError):
        pass
    return guessed(beginning)


def guessed(data: bytes) -> str:
    """Return what a detector takes the beginning of a file for; UTF-8 if it does not know."""
    try:
        import cchardet  # an optional extra
    except ImportError:
        raise UsageError(
            "--encoding auto needs faust-cchardet",
            "pip install faust-cchardet, or name the encoding",
        ) from None
    name = cchardet.detect(data)["encoding"]
    return known_encoding(WIDER.get(name, name)) if name else UTF8
