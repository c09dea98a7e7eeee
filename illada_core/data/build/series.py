"""A series of shards: encoded documents go in, each shard ends with the document that fills it."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

import numpy as np

from illada_core.data.build.encoding import Encoded
from illada_core.data.build.journal import Journal, Stage
from illada_core.data.sources.corpus import Position
from illada_core.data.sources.reading import Digest, Fault
from illada_core.data.store.frames import Mapper
from illada_core.data.store.shards import TokenShardWriter
from illada_core.data.store.turns import spans_of

SHARD_DOCUMENTS = 1 << 21  # the index of a shard is kept in memory until it is written


class ShardSeries:
    """Write the documents of a partition into its shards, and into the journal what each holds.

    It goes on after the shards of the journal. A context manager: leaving it drops the shard at
    hand, unless `finish` closed it.
    """

    def __init__(self, shard_tokens: int, journal: Journal, over: Mapper) -> None:
        self.shard_tokens, self.journal, self.over = shard_tokens, journal, over
        self._writer: TokenShardWriter | None = None
        self._stage = Stage()
        self._documents = 0

    def add(self, encoded: Encoded) -> None:
        """Append documents, and finish every shard they fill."""
        faults, digests = deque(encoded.faults), deque(encoded.digests)
        begin = 0
        while (stop := self._full_after(encoded, begin)) is not None:
            self._append(encoded, begin, stop)
            position = int(encoded.files[stop - 1]), int(encoded.records[stop - 1]) + 1
            self._note(faults, digests, position)
            self._finish_shard(position)
            begin = stop
        self._append(encoded, begin, None)
        self._note(faults, digests, None)

    def finish(self, end: Position) -> None:
        """Finish the last shard, and the journal, at the end of the partition."""
        self._finish_shard(end)

    def _full_after(self, encoded: Encoded, begin: int) -> int | None:
        """Return up to which document these fill the shard, None if it has room for all."""
        written = self._writer.tokens if self._writer else 0
        before = int(encoded.ends[begin - 1]) if begin else 0
        full = before + self.shard_tokens - written
        by_tokens = begin + int(np.searchsorted(encoded.ends[begin:], full)) + 1
        by_documents = begin + SHARD_DOCUMENTS - self._documents
        stop = min(by_tokens, by_documents)
        return stop if stop <= len(encoded.ends) else None

    def _append(self, encoded: Encoded, begin: int, stop: int | None) -> None:
        """Append documents begin to stop; None is the end, and what follows the last document."""
        first = int(encoded.ends[begin - 1]) if begin else 0
        last = int(encoded.ends[stop - 1]) if stop else len(encoded.ids)
        if first == last:
            return
        if not self._writer:
            journal = self.journal
            self._writer = TokenShardWriter(
                journal.next_shard, journal.vocab_size, journal.job, self.over
            )
        documents = slice(begin, stop)
        self._writer.add_documents(
            encoded.ids[first:last],
            encoded.ends[documents] - first,
            encoded.files[documents],
            encoded.records[documents],
        )
        if encoded.examples:
            turns = encoded.examples.turns[first:last]
            self._writer.add_spans(*spans_of(turns, encoded.ends[documents] - first))
            self._stage.cut += int(encoded.examples.cut[documents].sum())
        self._documents += len(encoded.ends[documents])
        self._stage.text_bytes += int(encoded.sizes[documents].sum())
        if stop is None:
            self._stage.text_bytes += encoded.open_size

    def _note(
        self, faults: deque[Fault], digests: deque[Digest], position: Position | None
    ) -> None:
        """Move to the stage what lies before a position, or all of it."""
        while faults and (position is None or (faults[0].file, faults[0].record) < position):
            self._stage.skipped[faults.popleft().reason] += 1
        while digests and (position is None or digests[0].file < position[0]):
            digest = digests.popleft()
            self._stage.digests.append((digest.bytes, digest.sha256))

    def _finish_shard(self, position: Position) -> None:
        self._stage.position = position
        if self._writer:
            self._stage.shard = self._writer.seal()
        self.journal.record(self._stage)
        if self._writer:
            self._writer.publish()
        self._writer, self._stage, self._documents = None, Stage(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer:
            self._writer.abandon()
