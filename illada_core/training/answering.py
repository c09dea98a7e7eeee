"""How a trained model is to be asked: what ends its answers, and prompts that were held out.

No torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np

from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.shards import ShardIndex
from illada_core.data.store.turns import turns_between
from illada_core.errors import DataError
from illada_core.text.chat_template import Message
from illada_core.text.conversations import example_pieces
from illada_core.text.tokenizer import Tokenizer
from illada_core.text.tokenizer_files import SpecialIds

END_OF_THINKING = "</think>"


@dataclass(frozen=True)
class GenerationDefaults:
    """What an exported model says of how to generate with it; `eos_ids` end an answer."""

    special: SpecialIds
    eos_ids: tuple[int, ...]
    end_thinking_ids: tuple[int, ...]
    block_length: int

    def facts(self) -> dict[str, Any]:
        """Return the contents of generation_config.json."""
        special = vars(self.special).items()
        ids = {f"{name}_token_id": number for name, number in special if number is not None}
        facts = {**ids, "eos_token_id": list(self.eos_ids), "block_length": self.block_length}
        if self.end_thinking_ids:
            facts["end_thinking_token_ids"] = list(self.end_thinking_ids)
        return facts


def generation_defaults(
    special: SpecialIds, tokenizer: Tokenizer | None, block_length: int
) -> GenerationDefaults:
    """Return the defaults of a model: its ids are the tokenizer's, as far as there is one."""
    ends, thinking = [special.eos], []
    if tokenizer is not None:
        ends.append(turn_end_id(tokenizer))
        thinking.append(tokenizer.controls.get(END_OF_THINKING))
    return GenerationDefaults(
        special=special,
        eos_ids=tuple(dict.fromkeys(number for number in ends if number is not None)),
        end_thinking_ids=tuple(number for number in thinking if number is not None),
        block_length=block_length,
    )


def turn_end_id(tokenizer: Tokenizer) -> int | None:
    """Return the control token that the chat template puts right behind an answer, if any."""
    messages = [Message("user", "question"), Message("assistant", "answer")]
    try:
        pieces = example_pieces(tokenizer, messages)
    except DataError:
        return None  # a template that cannot be used for chats says nothing of their ends
    following = [after for piece, after in pairwise(pieces) if piece.turn == 1]
    return following[-1].control_id if following else None


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
