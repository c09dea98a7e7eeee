"""A job: all that decides the bytes of a token dataset, and what its manifest says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time
from functools import cached_property, partial
from typing import Any

from illada_core.data.build.encoding import Encode, encode_texts
from illada_core.data.build.examples import encode_examples
from illada_core.data.build.fitting import ChatFormat
from illada_core.data.build.partitions import Partition, partition_bytes, partitions_of
from illada_core.data.build.series import SHARD_DOCUMENTS
from illada_core.data.sources.listing import UTF8, Source
from illada_core.data.store.manifest import CHAT, fingerprint_of
from illada_core.errors import UsageError
from illada_core.text.conversations import Chats, template_fingerprint
from illada_core.text.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 27
EXAMPLES = 2  # changes when the same lines would give other documents


@dataclass(frozen=True)
class Job:
    """All that decides the bytes of a dataset; `chat` if its documents are chat examples.

    `date` is the one that chat templates are told.
    """

    sources: Sequence[Source]
    tokenizer: Tokenizer
    text_key: str
    shard_tokens: int = SHARD_TOKENS
    chat: ChatFormat | None = None
    date: date | None = None

    @property
    def eos_id(self) -> int:
        """The id that ends each document; UsageError if the tokenizer names none."""
        eos_id = self.tokenizer.special.eos
        if eos_id is None:
            raise UsageError(
                f"{self.tokenizer.files.path} does not say which token ends a document",
                "name one of its tokens with --eos",
            )
        return eos_id

    @property
    def settings(self) -> dict[str, Any]:
        """What the manifest says of how the dataset was made."""
        chat: dict[str, Any] = {"text_key": self.text_key}
        if self.chat:
            template = template_fingerprint(self.tokenizer)
            chat = {CHAT: True, "template": template, "examples": EXAMPLES, **asdict(self.chat)}
            if self.date:
                chat["date"] = self.date.isoformat()
        return {
            "eos": self.eos_id,
            **chat,
            "layouts": sorted({source.layout for source in self.sources}),
            "shard_tokens": self.shard_tokens,
            "shard_documents": SHARD_DOCUMENTS,
            "partition_bytes": partition_bytes(self.shard_tokens),
            **self.encodings,
        }

    @property
    def encodings(self) -> dict[str, Any]:
        """What the inputs are encoded in, where that is not UTF-8."""
        others = {source.name: source.encoding for source in self.sources}
        others = {name: encoding for name, encoding in others.items() if encoding != UTF8}
        return {"encodings": others} if others else {}

    @property
    def encode(self) -> Encode:
        """What encodes a chunk of documents."""
        if self.chat is None:
            return partial(encode_texts, tokenizer=self.tokenizer, eos_id=self.eos_id)
        clock = partial(datetime.combine, self.date, time()) if self.date else None
        chats = Chats(self.tokenizer, clock)
        return partial(encode_examples, chats=chats, eos_id=self.eos_id, chat=self.chat)

    @property
    def partitions(self) -> list[Partition]:
        """The partitions of the sources, each of which owns its shards."""
        return partitions_of(self.sources, self.shard_tokens)

    @cached_property
    def fingerprint(self) -> str:
        """The name of the job: another one may not go on with its shards."""
        inputs = [[source.name, source.layout, source.bytes] for source in self.sources]
        record = asdict(self.tokenizer.record)
        return fingerprint_of({"tokenizer": record, "settings": self.settings, "inputs": inputs})
