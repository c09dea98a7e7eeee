"""Partitions: neighbouring sources that are tokenized together, into shards of their own.

They are a function of the inputs and the settings alone, never of how many machines share them out:
whoever tokenizes a partition makes the same bytes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from illada_core.data.sources.listing import Source

BYTES_A_TOKEN = 8  # a partition has so many bytes on disk for each token that a shard may hold


@dataclass(frozen=True)
class Partition:
    """The sources from number `first` up to `stop`; partitions are numbered from 0."""

    number: int
    first: int
    stop: int


def partition_bytes(shard_tokens: int) -> int:
    """Return how many bytes on disk fill a partition: about two shards of plain text."""
    return BYTES_A_TOKEN * shard_tokens


def partitions_of(sources: Sequence[Source], shard_tokens: int) -> list[Partition]:
    """Cut sources into partitions: each ends with the source that fills it.

    A stream is a partition of its own: nobody knows its size, and it is read by one process.
    """
    full = partition_bytes(shard_tokens)
    starts, size = [0], 0
    for number, source in enumerate(sources):
        if source.is_stream and number > starts[-1]:
            starts.append(number)
            size = 0
        size += source.bytes
        if source.is_stream or size >= full:
            starts.append(number + 1)
            size = 0
    if starts[-1] < len(sources):
        starts.append(len(sources))
    return [Partition(number, *ends) for number, ends in enumerate(pairwise(starts))]


def bytes_of(sources: Sequence[Source], partition: Partition) -> int:
    """Return the bytes on disk of the sources of a partition."""
    return sum(source.bytes for source in sources[partition.first : partition.stop])
