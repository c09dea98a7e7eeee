"""Chunks of documents to ids: read ahead by one thread, encode in several, hand over in order.

All that takes time happens in libraries that let other threads run meanwhile. So the workers are
threads: they share one tokenizer with its cache, and no text is copied between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from illada_core.arrays import Counts, Ids
from illada_core.data.sources.reading import Chunk, Digest, Fault, Texts
from illada_core.data.store.turns import Turns
from illada_core.text.cutting import cut_text, is_giant
from illada_core.text.tokenizer import Tokenizer

READ_AHEAD = 4
WAITING_PER_WORKER = 3
LEAST_MEGABYTES = 16
EMPTY = "empty"
Item = TypeVar("Item")
Result = TypeVar("Result")
# What a generator function returns: closing it ends its threads.
Items: TypeAlias = Generator[Item, None, None]


@dataclass(frozen=True)
class Examples:
    """What chat examples bring beside their ids: the turn of each token, and which are cut.

    `rewritten` counts those of which the template rewrote an earlier answer.
    """

    turns: Turns
    cut: NDArray[np.bool_]
    rewritten: int = 0


@dataclass(frozen=True)
class Encoded:
    """Documents as ids. After the last end may follow the beginning of one that goes on.

    `sizes` are the UTF-8 bytes of the documents that end here, `open_size` those of what follows.
    `unknown` counts the tokens that stand for what the vocabulary lacks.
    """

    ids: Ids
    ends: Counts
    files: Counts
    records: Counts
    sizes: Counts
    open_size: int
    faults: list[Fault]
    digests: list[Digest]
    source_bytes: int
    examples: Examples | None = None
    unknown: int = 0


# Encodes the documents of one chunk, which brings the reader so many bytes on in the sources.
Encode: TypeAlias = Callable[[Texts, int], Encoded]


def encode_chunks(chunks: Items[Chunk], encode: Encode, workers: int) -> Items[Encoded]:
    """Encode chunks with `workers` threads and yield them in their order.

    As many threads read what the chunks promise, so that no encoder waits for a file or for JSON.
    """
    read = map_in_order(keep_promise, read_ahead(chunks), workers, lambda chunk: chunk.held_bytes)
    return map_in_order(lambda item: encode(*item), read, workers, lambda item: sum(item[0].sizes))


def keep_promise(chunk: Chunk) -> tuple[Texts, int]:
    """Read a chunk; return its documents, and how far in the sources it brings the reader."""
    return chunk.read(), chunk.source_bytes


def encode_texts(
    texts: Texts, source_bytes: int, tokenizer: Tokenizer, eos_id: int | None
) -> Encoded:
    """Encode the documents of one chunk.

    With an `eos_id` each document ends with it, and empty documents are left out as faults.
    """
    closed = len(texts.texts) - texts.is_open
    ids, ends = encode_documents(texts.texts, tokenizer, texts.is_rest)
    unknown = tokenizer.count_unknown(ids)
    open_size = sum(texts.sizes[closed:])
    columns = (texts.files, texts.records, texts.sizes)
    files, records, sizes = (np.array(column[:closed], np.int64) for column in columns)
    ends, faults = ends[:closed], texts.faults
    if eos_id is not None:
        if not sizes.all():
            places = np.stack([files, records], 1)[sizes == 0].tolist()
            faults = [*faults, *(Fault(file, record, EMPTY) for file, record in places)]
            faults.sort(key=lambda fault: (fault.file, fault.record))
            files, records, ends, sizes = (
                column[sizes > 0] for column in (files, records, ends, sizes)
            )
        ids, ends = insert_eos(ids, ends, eos_id)
    return Encoded(
        ids,
        ends,
        files,
        records,
        sizes,
        open_size,
        faults,
        texts.digests,
        source_bytes,
        unknown=unknown,
    )


def encode_documents(
    texts: Sequence[str], tokenizer: Tokenizer, is_rest: bool = False
) -> tuple[Ids, Counts]:
    """Encode whole texts, giant ones piece by piece; return all ids, and where each text's end.

    With `is_rest` the first text goes on with a document that began earlier.
    """
    if not is_rest and not any(is_giant(text) for text in texts):
        return tokenizer.encode_flat(texts)
    parts: list[Ids] = []
    for number, text in enumerate(texts):
        if is_rest and number == 0:
            parts.append(tokenizer.encode_rest(text))  # a piece already
            continue
        first, *others = cut_text([text], tokenizer.cuts_cleanly)
        rest = map(tokenizer.encode_rest, others)
        parts.append(np.concatenate([tokenizer.encode_flat([first])[0], *rest]))
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return np.concatenate(parts), ends


def insert_eos(ids: Ids, ends: Counts, eos_id: int) -> tuple[Ids, Counts]:
    """Put `eos_id` at each end; return the longer ids, and where the documents now end."""
    return np.insert(ids, ends, eos_id), ends + np.arange(1, len(ends) + 1)


def map_in_order(
    work: Callable[[Item], Result],
    items: Items[Item],
    workers: int,
    weigh: Callable[[Item], int],
) -> Items[Result]:
    """Map `work` over items in threads; results keep the order.

    So many are at work at once as keep the threads busy, but fewer if they weigh much.
    """
    most = workers * WAITING_PER_WORKER
    heaviest = max(most, LEAST_MEGABYTES) << 20
    waiting: deque[tuple[int, Future[Result]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            weight = weigh(item)
            while waiting and (len(waiting) >= most or held + weight > heaviest):
                done, future = waiting.popleft()
                held -= done
                yield future.result()
            waiting.append((weight, pool.submit(work, item)))
            held += weight
        for _, future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()


def read_ahead(items: Items[Item]) -> Items[Item]:
    """Draw items in a thread of their own, a few before they are asked for."""
    end = object()
    waiting: deque[Future[Item | object]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for _ in range(READ_AHEAD):
            waiting.append(pool.submit(next, items, end))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()
