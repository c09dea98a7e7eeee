"""What a model folder says of how to generate with it, read and written. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from illada_core.errors import CheckpointError
from illada_core.files import read_json
from illada_core.inference.rules import BLOCK_LENGTH
from illada_core.model.config import ModelConfig
from illada_core.model.finding import CONFIG, GENERATION_FILE
from illada_core.text.conversations import turn_end_id
from illada_core.text.tokenizer import Tokenizer
from illada_core.text.tokenizer_files import SpecialIds

# Strings that end a turn in released templates, beside eos; their ids come from the tokenizer.
TURN_ENDS = ("<|eot_id|>", "<|im_end|>")
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
        added = {token.content: token.id for token in tokenizer.files.added}
        thinking.append(added.get(END_OF_THINKING))
    return GenerationDefaults(
        special=special,
        eos_ids=tuple(dict.fromkeys(number for number in ends if number is not None)),
        end_thinking_ids=tuple(number for number in thinking if number is not None),
        block_length=block_length,
    )


def find_end_ids(folder: Path, config: ModelConfig, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Return the ids that end a text: eos ids of either configuration file, ends of turns.

    Raises CheckpointError for one that the model does not have.
    """
    ids: list[int] = []
    for path in (folder / CONFIG, folder / GENERATION_FILE):
        listed = read_json(path).get("eos_token_id")
        for number in listed if isinstance(listed, list) else [listed]:
            if number is None:
                continue
            if type(number) is not int or not 0 <= number < config.vocab_size:
                raise CheckpointError(
                    f"{path}: eos_token_id {number!r} is none of the model's "
                    f"{config.vocab_size:,} ids"
                )
            ids.append(number)
    if tokenizer is not None:
        known = (tokenizer.special.eos, *map(tokenizer.controls.get, TURN_ENDS))
        ids += [number for number in known if number is not None]
    return tuple(dict.fromkeys(ids))


def find_block_length(folder: Path) -> int:
    """Return the block length that generation_config.json asks for, else the released models'."""
    asked = read_json(folder / GENERATION_FILE).get("block_length", BLOCK_LENGTH)
    if type(asked) is not int or asked < 1:
        raise CheckpointError(
            f"{folder / GENERATION_FILE}: block_length is {asked!r}, not a whole number above 0"
        )
    return asked
