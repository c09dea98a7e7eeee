"""What happens while text becomes tokens: headway, notices, documents left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from illada_core.data.build.examples import UNFIT
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import Fault
from illada_core.errors import DataError

SKIP_HINT = "--on-error skip leaves such documents out and counts them"
NO_KEY = ("no key", "no column")
KEY_HINT = f"name another with --text-key, or {SKIP_HINT}"
TEMPLATE_HINT = f"mend the template beside the tokenizer if all lines fail; {SKIP_HINT}"
OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class Headway:
    """What has been done since the last event."""

    source_bytes: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class Notice:
    """Something a person should know, once."""

    text: str


@dataclass(frozen=True)
class Skipped:
    """A document left out, as `file:line: reason (detail)`."""

    text: str


@dataclass(frozen=True, kw_only=True)
class PartDone:
    """What some partitions hold in the end; `skipped` counts documents left out, by reason."""

    documents: int
    tokens: int
    text_bytes: int
    shards: int
    skipped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a dataset holds in the end; `skipped` counts documents left out, by reason.

    `cut` counts examples made shorter. If it `was_complete` before, nobody knows its `text_bytes`,
    and what was skipped only of a chat dataset.
    """

    fingerprint: str
    documents: int
    tokens: int
    text_bytes: int
    shards: int
    skipped: dict[str, int]
    resumed_shards: int
    was_complete: bool
    cut: int = 0


BuildEvent = Headway | Notice | Skipped | PartDone | Report


def leave_out(fault: Fault, sources: Sequence[Source], on_error: OnError) -> Skipped:
    """Tell of a document that cannot be used; DataError if that ends the work."""
    text = fault.text(sources)
    if on_error == "stop":
        raise DataError(text, hint_for(fault.reason))
    return Skipped(text)


def hint_for(reason: str) -> str:
    """Say what helps against a document that cannot be used."""
    if reason.startswith(NO_KEY):
        return KEY_HINT
    return TEMPLATE_HINT if reason == UNFIT else SKIP_HINT
