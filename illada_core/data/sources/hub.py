"""Hub datasets, read as a stream: no file of theirs is kept. The one owner of `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import datasets

from illada_core.data.sources.columns import CHUNK_ROWS, add_value
from illada_core.data.sources.listing import HUB_PREFIX, Source
from illada_core.data.sources.reading import CHUNK_BYTES, Chunk, Digest, Texts, chunk_of, end_chunk
from illada_core.errors import DataError, UsageError, first_line

DEFAULT_SPLIT = "train"


def hub_chunks(number: int, source: Source, first: int, key: str) -> Iterator[Chunk]:
    """Yield the chunks of a hub dataset, streamed; its digest is that of its texts."""
    name, config, split = hub_address(source.path)
    rows = hub_rows(source.path, name, config, split)
    result, size, row = Texts(), 0, 0
    total, sha256 = 0, hashlib.sha256()
    for row, value in enumerate(rows):
        if key not in value:
            raise DataError(
                f'{source.path} has no column "{key}"',
                f"name one of these with --text-key: {', '.join(value)}",
            )
        text = value[key]
        if isinstance(text, str):
            data = text.encode("utf-8", "surrogatepass")
            sha256.update(len(data).to_bytes(8, "little") + data)
            size, total = size + len(data), total + len(data)
        if row >= first:
            add_value(result, text, number, row)
        if size >= CHUNK_BYTES or len(result.texts) >= CHUNK_ROWS:
            yield chunk_of(result)
            result, size = Texts(), 0
    yield chunk_of(result)
    yield end_chunk(Digest(number, total, sha256.hexdigest()))


def hub_address(path: str) -> tuple[str, str | None, str]:
    """Take `hf:NAME[/CONFIG]#SPLIT` apart; NAME is `owner/dataset`, or a local folder.

    UsageError if that is not what it is.
    """
    address, _, split = path.removeprefix(HUB_PREFIX).partition("#")
    if address.startswith(("/", "./", "../")):
        return address, None, split or DEFAULT_SPLIT
    parts = address.split("/")
    if not all(parts) or len(parts) > 3:
        raise UsageError(
            f"{path} names no hub dataset", "write hf:OWNER/DATASET[/CONFIG]#SPLIT".lower()
        )
    config = parts[2] if len(parts) == 3 else None
    return "/".join(parts[:2]), config, split or DEFAULT_SPLIT


def hub_rows(path: str, name: str, config: str | None, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset as they arrive; DataError if it cannot be had."""
    datasets.disable_progress_bars()
    try:
        yield from datasets.load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot read {path}: {first_line(error)}",
            "without network, download the dataset elsewhere and name its files",
        ) from error
