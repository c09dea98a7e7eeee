"""A look at all inputs before a long run: which cannot be used, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import Fault
from illada_core.errors import DataError

NAMED = 20


def scan(sources: Sequence[Source], key: str) -> Iterator[Fault]:
    """Read all that can be read twice; yield the first fault of each file."""
    for number, source in enumerate(sources):
        if source.is_stream:
            continue
        for chunk in corpus_chunks(sources[: number + 1], key, (number, 0)):
            faults = chunk.read().faults
            if faults:
                yield faults[0]
                break


def refuse_bad_files(sources: Sequence[Source], key: str) -> None:
    """Raise DataError that names all files which cannot be used whole, if there are any."""
    bad = list(scan(sources, key))
    if not bad:
        return
    lines = [fault.text(sources) for fault in bad[:NAMED]]
    if len(bad) > NAMED:
        lines.append(f"and {len(bad) - NAMED:,} more")
    files = "1 file" if len(bad) == 1 else f"{len(bad):,} files"
    raise DataError(
        f"{files} cannot be used:\n" + "\n".join(f"  {line}" for line in lines),
        "--on-error skip leaves such documents out and counts them",
    )
