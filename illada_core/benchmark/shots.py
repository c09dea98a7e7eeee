"""Which items stand before an item as shots: functions of the item and a seed alone. No torch.

So they are the same on any number of ranks, for any limit, and after any kill. An item is never a
shot of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from illada_core.benchmark.definition import Benchmark
from illada_core.benchmark.records import Record, read_record
from illada_core.errors import DataError, UsageError
from illada_core.files import json_line
from illada_core.noise import STREAM_SHOTS, random_words


@dataclass(frozen=True)
class Pool:
    """The items that shots are drawn from, and what they ask, by which an item is known again."""

    records: tuple[Record, ...]
    names: tuple[str, ...]


def pool_of(records: Sequence[Record]) -> Pool:
    """Return items as a pool."""
    return Pool(tuple(records), tuple(map(question_name, records)))


def example_pool(benchmark: Benchmark) -> Pool:
    """Return the examples that a task's file holds. Raises UsageError for one that is none."""
    try:
        pairs = enumerate(benchmark.examples)
        return pool_of([read_record(at, doc, benchmark) for at, doc in pairs])
    except DataError as error:
        raise UsageError(f"an example of {benchmark.name}: {error.sentence}") from None


def question_name(record: Record) -> str:
    """Name what an item asks, whatever else its line holds."""
    return record.fields.get("question") or record.fields.get("prompt") or json_line(record.doc)


def choose_shots(
    record: Record, pool: Pool, benchmark: Benchmark, count: int, seed: int
) -> list[Record]:
    """Return the shots of an item, in their order.

    Raises UsageError where the pool has too few of them.
    """
    if not count:
        return []
    own, by = question_name(record), benchmark.by
    open_to = [
        place
        for place, (each, name) in enumerate(zip(pool.records, pool.names, strict=True))
        if name != own and (not by or each.fields.get(by) == record.fields.get(by))
    ]
    if len(open_to) < count:
        among = f" of {record.fields.get(by)!r}" if by else ""
        raise UsageError(
            f"{benchmark.name}: {count} shots are asked for, and there are {len(open_to)}{among}",
            "give fewer with --shots, or items to draw from with --shots-from",
        )
    if benchmark.examples or benchmark.draw == "first":
        return [pool.records[place] for place in open_to[:count]]
    words = random_words(seed, STREAM_SHOTS, 0, crc32(own.encode()), np.array(open_to))
    order = np.argsort(words, kind="stable")[:count]
    return [pool.records[open_to[place]] for place in order]
