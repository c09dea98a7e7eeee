"""Prompts and texts that were held out, to be answered and written again while a model learns.

No torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.index import ShardIndex
from illada_core.data.store.turns import turns_between


@dataclass(frozen=True)
class Wanted:
    """What is to be written: the ids `before` it, those `after` it, and those that stood there.

    Nothing after it makes it a continuation; nothing that stood there, an answer.
    """

    before: tuple[int, ...]
    after: tuple[int, ...] = ()
    original: tuple[int, ...] = ()


def held_out_texts(dataset: TokenDataset, count: int, most: int) -> tuple[Wanted, ...]:
    """Return up to `count` rows twice each: their beginning to be continued, and to be infilled.

    Of a row its first segment is taken: a third, up to `most` tokens, stands before the gap, as
    much in it, and in the second case as much after it.
    """
    wanted: list[Wanted] = []
    for number in range(dataset.rows):
        row = dataset.row(number)
        part = min(int(row.segment_ends[0]) // 3, most)
        if part and len(wanted) < 2 * count:
            ids = row.ids[: 3 * part].tolist()
            before, original = tuple(ids[:part]), tuple(ids[part : 2 * part])
            wanted.append(Wanted(before, (), original))
            wanted.append(Wanted(before, tuple(ids[2 * part :]), original))
        if len(wanted) == 2 * count:
            break
    return tuple(wanted)


def held_out_prompts(
    dataset: TokenDataset, count: int, longest: int
) -> tuple[tuple[int, ...], ...]:
    """Return the ids of up to `count` prompts of at most `longest` tokens, one a row, in order."""
    fitting = (ids for ids in prompts_of(dataset) if len(ids) <= longest)
    return tuple(islice(fitting, count))


def prompts_of(dataset: TokenDataset) -> Iterator[tuple[int, ...]]:
    """Yield the prompt of the first whole example of each row that has one."""
    for shard_start, index in zip(dataset.token_starts, dataset.indexes(), strict=False):
        for start, stop in pairwise([0, *index.row_ends.tolist()]):
            place = first_prompt(index, start, stop)
            if place is not None:
                ids = dataset.read(int(shard_start) + place[0], int(shard_start) + place[1])
                yield tuple(ids.tolist())


def first_prompt(index: ShardIndex, start: int, stop: int) -> tuple[int, int] | None:
    """Return where in a shard the first prompt of a row lies: from an example's first token on.

    It ends where the first response begins, which must lie in the row too.
    """
    first, last = np.searchsorted(index.document_ends, (start, stop), "right")
    begin = start
    for piece in range(first, last):
        end = int(index.document_ends[piece])
        is_answer = turns_between(index, begin, end) > 0
        if index.document_offsets[piece] == 0 and is_answer.any() and not is_answer[0]:
            return begin, begin + int(is_answer.argmax())
        begin = end
    return None
