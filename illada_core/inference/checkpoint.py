"""A checkpoint as it is served: found, opened, checked against its tokenizer, then loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from illada_core.errors import CheckpointError, UsageError
from illada_core.inference.defaults import find_block_length, find_end_ids
from illada_core.inference.rules import NO_MASK, ModelIds
from illada_core.model.config import ModelConfig
from illada_core.model.configfile import choose_mask_id, read_config
from illada_core.model.families.family import FULL_OWN, Reading
from illada_core.model.finding import find_model
from illada_core.model.quantized import Quantization, quantize
from illada_core.model.transformer import Transformer
from illada_core.model.weights import load_model
from illada_core.text.conversations import prompt_ids
from illada_core.text.messages import Dialogue
from illada_core.text.tokenizer import Tokenizer, load_tokenizer
from illada_core.text.tokenizer_files import TOKENIZER_FILE

DEVICE_KINDS = ("cpu", "cuda")
BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}
AHEAD = {"cpu": 1, "cuda": 4}


@dataclass(frozen=True)
class Checkpoint:
    """A model folder before its weights are loaded.

    `end_ids` end a text, and `block_length` says how many positions it was made to fill together.
    A model that writes from left to right has NO_MASK.
    """

    folder: Path
    config: ModelConfig
    tokenizer: Tokenizer | None
    mask_id: int
    end_ids: tuple[int, ...]
    block_length: int

    @property
    def ids(self) -> ModelIds:
        """What a sampler must know of it."""
        vocab_size = self.tokenizer.vocab_size if self.tokenizer else None
        return ModelIds(self.mask_id, vocab_size, self.end_ids)

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer. Raises CheckpointError where the folder has none."""
        if self.tokenizer is None:
            raise CheckpointError(
                f"{self.folder} holds no {TOKENIZER_FILE}, so it can serve ids only",
                "give prompt_ids (JSON Lines), or copy the tokenizer into the folder",
            )
        return self.tokenizer

    @property
    def reading(self) -> Reading:
        """What a token attends to, and whose token a row of logits speaks of."""
        return Reading(self.config.attention, self.config.shift)

    @property
    def named_reading(self) -> dict[str, Any]:
        """How it is read, for names of what it wrote; nothing for LLaDA's own way."""
        return {} if self.reading == FULL_OWN else vars(self.reading)

    @property
    def told_reading(self) -> str | None:
        """How the folder is read, in a sentence; None for LLaDA's own way."""
        if self.reading == FULL_OWN and self.config.family in ("illada", "llada"):
            return None
        token = "the next" if self.config.shift else "its own"
        return (
            f"{self.folder} is read as a {self.config.family} model: {self.config.attention} "
            f"attention, and each row of logits speaks of {token} token"
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know of its files, a sentence each."""
        return self.tokenizer.files.notices if self.tokenizer else ()

    def encode_text(self, text: str, bos: bool | None = None) -> list[int]:
        """Return the ids of plain text, with bos in front where asked for.

        Where nobody says, what the tokenizer's files put in front stands there, as in transformers.
        """
        tokenizer = self.require_tokenizer()
        ids = tokenizer.encode(text)
        if bos is None:
            return [*tokenizer.files.opening_ids, *ids]
        if not bos:
            return ids
        named = (self.config.bos_id, tokenizer.special.bos)
        bos_id = next((number for number in named if number is not None), None)
        if bos_id is None:
            raise CheckpointError(f"{self.folder} names no bos id, so --bos cannot be obeyed")
        return [bos_id, *ids]

    def encode_chat(self, dialogue: Dialogue) -> list[int]:
        """Return the ids of a conversation, up to where the assistant is to speak."""
        return prompt_ids(self.require_tokenizer(), dialogue)

    def load(
        self,
        device: str = "cpu",
        dtype: str | torch.dtype = "auto",
        quantization: Quantization | None = None,
    ) -> Transformer:
        """Load the weights for inference, rounded to 8 or 4 bits where asked for.

        `auto` is bfloat16 on a GPU, else the stored dtype. Raises CheckpointError, or UsageError.
        """
        dtype = str(dtype).removeprefix("torch.")
        if dtype == "auto" and torch.device(device).type == "cuda":
            dtype = "bfloat16"
        config = self.config
        model = load_model(
            self.folder, device, dtype, attention=config.attention, shift=config.shift
        )
        model.eval().requires_grad_(False)
        if quantization is not None:
            quantize(model, quantization, torch.device(device))
        return model


def choose_device(wanted: str) -> str:
    """Return the torch name of a device, `auto` a GPU if there is one.

    Raises UsageError for one that is not there, or that is not served: where numbers of 64 bits or
    kernels lack (mps), or nothing is computed (meta), answers would be none or wrong.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.partition(":")[0] not in DEVICE_KINDS:
        raise UsageError(f"{wanted!r} is no device that is served", "cpu, cuda or cuda:N")
    try:
        torch.empty(0, device=wanted).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"there is no device {wanted!r} here", "try --device cpu") from None
    return wanted


def batch_tokens_for(device: str | torch.device) -> int:
    """Return how many packed tokens go through the model at once where nobody says."""
    return BATCH_TOKENS.get(torch.device(device).type, BATCH_TOKENS["cuda"])


def ahead_for(device: str | torch.device) -> int:
    """Return how many steps are asked for before the first is read, where nobody says.

    A GPU would stand still meanwhile; a CPU that computes has nothing to wait for.
    """
    return AHEAD.get(torch.device(device).type, AHEAD["cuda"])


def open_checkpoint(
    ckpt: str | Path, mask_id: int | None = None, asked: Reading | None = None
) -> Checkpoint:
    """Find a checkpoint and read everything but its weights.

    `ckpt` is a run folder (its newest complete checkpoint), a model folder, or a hub id; `asked`
    says how it is to be read where its files do not, or against them.
    Raises CheckpointError, or UsageError for a mask id that cannot be one.
    """
    folder = find_model(ckpt)
    config = read_config(folder, asked)
    tokenizer = None
    if (folder / TOKENIZER_FILE).exists():
        tokenizer = load_tokenizer(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size:,} ids, "
                f"the model only {config.vocab_size:,}",
                f"they belong to different models: put the right {TOKENIZER_FILE} into the folder",
            )
    return Checkpoint(
        folder=folder,
        config=config,
        tokenizer=tokenizer,
        mask_id=mask_of(config, mask_id, tokenizer),
        end_ids=find_end_ids(folder, config, tokenizer),
        block_length=find_block_length(folder),
    )


def mask_of(config: ModelConfig, asked: int | None, tokenizer: Tokenizer | None) -> int:
    """Return the mask id of a model. Raises UsageError or CheckpointError for one that cannot be.

    Where attention is causal no later token is met, and a mask would stand for nothing.
    """
    if not config.is_causal:
        return choose_mask_id(config, asked, tokenizer.special.mask if tokenizer else None)
    if asked is not None:
        raise UsageError(
            f"--mask-id {asked}: the model's attention is causal, so it hides no tokens",
            "--attention full reads it as one that does",
        )
    return NO_MASK
