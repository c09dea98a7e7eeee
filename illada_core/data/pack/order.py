"""Which documents belong to a part, and in which order they are packed: a function of the seed.

The shuffle is in two levels, so that memory stays bounded and reading stays sequential: blocks of
neighbouring documents are permuted over the whole corpus, consecutive blocks make a window, and the
documents of a window are permuted among themselves. A corpus of one window is shuffled uniformly;
in a larger one, documents of one block stay within one window. Nothing here reads a token: lengths
and content hashes come from the shards' indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from illada_core.arrays import Counts
from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.index import ShardIndex
from illada_core.data.store.manifest import VALIDATION
from illada_core.noise import STREAM_DOCUMENT_ORDER, WORD, random_words

BLOCK_ORDER, DOCUMENT_ORDER = 0, 1

# A piece is a document or a part of one: where it is stored, and where its text came from.
PIECE = np.dtype([(n, np.int64) for n in ("shard", "start", "length", "file", "record", "offset")])
Pieces: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Sizes:
    """How many tokens a block and a window of the shuffle have, about. A window is in memory."""

    block_tokens: int = 2**21
    window_tokens: int = 2**26


@dataclass(frozen=True)
class Part:
    """The documents of a dataset that one part of the packed one takes, cut and shuffled.

    `holdout` is the share of documents kept for validation, `longest` the piece that a document
    may be shuffled as, `seed` None the order of the corpus.
    """

    name: str
    holdout: float
    longest: int
    seed: int | None
    sizes: Sizes


@dataclass(frozen=True)
class Windows:
    """The order of blocks, and which of them make each window.

    Window w takes `blocks[block_starts[w]:block_starts[w + 1]]`, and its tokens begin at
    `token_starts[w]` of all the part's tokens.
    """

    blocks: Counts
    block_starts: Counts
    token_starts: Counts

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.block_starts) - 1

    @property
    def tokens(self) -> int:
        """How many tokens the part has."""
        return int(self.token_starts[-1])


def is_held_out(hashes: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Tell which documents a holdout of this share takes, by their content alone.

    Equal documents stay together, and a larger share contains every smaller one.
    """
    return hashes >> np.uint64(1) < np.uint64(share * 2**63)


def shard_pieces(index: ShardIndex, shard: int, part: Part) -> Pieces:
    """List the pieces of one shard that belong to a part, in the order of the file."""
    lengths = np.diff(index.document_ends, prepend=0)
    keep = is_held_out(index.document_hashes, part.holdout) == (part.name == VALIDATION)
    documents = np.flatnonzero(keep)
    counts = -(-lengths[documents] // part.longest)
    # One line a piece: its document, and how many pieces of that document come before it.
    documents = np.repeat(documents, counts)
    before = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    pieces = np.empty(len(documents), PIECE)
    pieces["shard"] = shard
    pieces["offset"] = before * part.longest
    pieces["start"] = (index.document_ends - lengths)[documents] + pieces["offset"]
    pieces["length"] = np.minimum(lengths[documents] - pieces["offset"], part.longest)
    pieces["file"] = index.document_files[documents]
    pieces["record"] = index.document_records[documents]
    return pieces


def first_blocks(dataset: TokenDataset, block_tokens: int) -> Counts:
    """Return the number of each shard's first block, and the count of all at the end."""
    blocks = [-(-shard.tokens // block_tokens) for shard in dataset.manifest.shards]
    return np.cumsum([0, *blocks])


def tokens_of_blocks(dataset: TokenDataset, parts: Sequence[Part]) -> list[Counts]:
    """Return how many tokens of each block every part takes, from one look at all indexes."""
    size = parts[0].sizes.block_tokens
    starts = first_blocks(dataset, size)
    tokens = [np.zeros(starts[-1], np.int64) for _ in parts]
    for shard, index in enumerate(dataset.indexes()):
        for part, counted in zip(parts, tokens, strict=True):
            pieces = shard_pieces(index, shard, part)
            np.add.at(counted, starts[shard] + pieces["start"] // size, pieces["length"])
    return tokens


def plan_windows(part: Part, tokens: Counts) -> Windows:
    """Order blocks of which a part takes so many tokens, and group them into equal windows."""
    order = np.arange(len(tokens))
    if part.seed is not None:
        keys = random_words(part.seed, STREAM_DOCUMENT_ORDER, BLOCK_ORDER, order, 0)
        order = np.argsort(keys, kind="stable")
    before = np.cumsum(tokens[order]) - tokens[order]
    total = int(tokens.sum())
    count = max(1, round(total / part.sizes.window_tokens))
    window = np.minimum(before * count // max(total, 1), count - 1)
    block_starts = np.flatnonzero(np.diff(window, prepend=-1))
    return Windows(
        blocks=order,
        block_starts=np.append(block_starts, len(order)),
        token_starts=np.append(before[block_starts], total),
    )


def window_pieces(dataset: TokenDataset, part: Part, windows: Windows, window: int) -> Pieces:
    """List the pieces of one window in their shuffled order."""
    starts = first_blocks(dataset, part.sizes.block_tokens)
    blocks = windows.blocks[windows.block_starts[window] : windows.block_starts[window + 1]]
    shards = np.searchsorted(starts, blocks, "right") - 1
    found = []
    for shard in np.unique(shards).tolist():
        pieces = shard_pieces(dataset.shard(shard).index, shard, part)
        wanted = blocks[shards == shard] - starts[shard]
        found.append(pieces[np.isin(pieces["start"] // part.sizes.block_tokens, wanted)])
    pieces = np.concatenate(found)
    if part.seed is None:
        return pieces
    rows = pieces["shard"] | (pieces["start"] >> 32) << 32
    positions = pieces["start"] & WORD
    keys = random_words(part.seed, STREAM_DOCUMENT_ORDER, DOCUMENT_ORDER, rows, positions)
    return pieces.take(np.argsort(keys, kind="stable"))
