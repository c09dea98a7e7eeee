"""A checkpoint as the verbs use it: found, opened, checked against its tokenizer, then loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from illada_core.errors import CheckpointError, DataError, UsageError

if TYPE_CHECKING:
    from illada_core.model.config import ModelConfig
    from illada_core.model.transformer import Transformer
    from illada_core.text.chat_template import Message
    from illada_core.text.tokenizer import Tokenizer

# Strings that end a turn in released templates, beside eos; their ids come from the tokenizer.
TURN_ENDS = ("<|eot_id|>", "<|im_end|>")
BLOCK_LENGTH = 32
TRUNCATE_HINT = "--truncate left keeps the end of such prompts"
BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}


@dataclass(frozen=True)
class Checkpoint:
    """A model folder before its weights are loaded.

    `end_ids` end a text; `add_bos` says whether the files want bos before a plain prompt, and
    `block_length` how many positions it was made to fill together.
    """

    folder: Path
    config: ModelConfig
    tokenizer: Tokenizer | None
    mask_id: int
    end_ids: tuple[int, ...]
    add_bos: bool
    block_length: int

    def needed_tokenizer(self) -> Tokenizer:
        """Return the tokenizer. Raises CheckpointError where the folder has none."""
        if self.tokenizer is None:
            raise CheckpointError(
                f"{self.folder} holds no tokenizer.json, so it can serve ids only",
                "give prompt_ids (JSON Lines), or copy the tokenizer into the folder",
            )
        return self.tokenizer

    def encode_text(self, text: str, bos: bool | None = None) -> list[int]:
        """Return the ids of plain text, with bos in front where asked for or the files want it."""
        tokenizer = self.needed_tokenizer()
        ids = tokenizer.encode(text)
        if not (self.add_bos if bos is None else bos):
            return ids
        named = (self.config.bos_id, tokenizer.special.bos)
        bos_id = next((number for number in named if number is not None), None)
        if bos_id is None:
            raise CheckpointError(f"{self.folder} names no bos id, so --bos cannot be obeyed")
        return [bos_id, *ids]

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a conversation, up to where the assistant is to speak."""
        from illada_core.text.chat_template import encode
        from illada_core.text.conversations import prompt_pieces

        tokenizer = self.needed_tokenizer()
        return encode(prompt_pieces(tokenizer, messages), tokenizer.encode)

    def load(self, device: str, dtype: str) -> Transformer:
        """Load the weights. `auto` is a GPU if there is one, and bfloat16 there, else as stored."""
        from illada_core.model.weights import load_model

        if dtype == "auto" and device == "cuda":
            dtype = "bfloat16"
        return load_model(self.folder, device, dtype).eval().requires_grad_(False)


def choose_device(wanted: str) -> str:
    """Return the torch name of a device. Raises UsageError for one that is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"there is no device {wanted!r} here", "try --device cpu") from None
    return wanted


def open_checkpoint(wanted: str, mask_id: int | None = None) -> Checkpoint:
    """Find a checkpoint and read everything but its weights.

    `wanted` is a run folder (its newest complete checkpoint), a model folder, or a hub id.
    Raises CheckpointError, or UsageError for a mask id that cannot be one.
    """
    from illada_core.files import read_json
    from illada_core.model.config import choose_mask_id
    from illada_core.model.configfile import read_config
    from illada_core.model.finding import find_model
    from illada_core.text.tokenizer import load_tokenizer

    folder = find_model(wanted)
    config = read_config(folder)
    tokenizer = None
    if (folder / "tokenizer.json").exists():
        tokenizer = load_tokenizer(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, "
                f"the model only {config.vocab_size:,}",
                "they belong to different models: put the right tokenizer.json into the folder",
            )
    settings = read_json(folder / "tokenizer_config.json")
    return Checkpoint(
        folder=folder,
        config=config,
        tokenizer=tokenizer,
        mask_id=choose_mask_id(config, mask_id, tokenizer.special.mask if tokenizer else None),
        end_ids=end_ids(folder, config, tokenizer),
        block_length=block_length(folder),
        add_bos=settings.get("add_bos_token") is True,
    )


def end_ids(folder: Path, config: ModelConfig, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Return the ids that end a text: eos ids of either configuration file, ends of turns.

    Raises CheckpointError for one that the model does not have.
    """
    from illada_core.files import read_json

    ids: list[int] = []
    for path in (folder / "config.json", folder / "generation_config.json"):
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


def block_length(folder: Path) -> int:
    """Return the block length that generation_config.json asks for, else the released models'."""
    from illada_core.files import read_json

    asked = read_json(folder / "generation_config.json").get("block_length", BLOCK_LENGTH)
    if type(asked) is not int or asked < 1:
        raise CheckpointError(
            f"{folder / 'generation_config.json'}: block_length is {asked!r}, not a whole number "
            "above 0"
        )
    return asked


def fit_prompt(ids: Sequence[int], room: int, truncate: str | None, context: int) -> list[int]:
    """Return a prompt of at most `room` ids: its end, if `truncate` is "left".

    Raises DataError for one that is too long otherwise.
    """
    if len(ids) <= room:
        return list(ids)
    if truncate != "left":
        raise DataError(
            f"the prompt is {len(ids):,} tokens long, and the context of {context:,} leaves "
            f"room for {room:,}",
            TRUNCATE_HINT,
        )
    return list(ids[-room:])
