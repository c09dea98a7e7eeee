"""A checkpoint opened as the options of a verb ask, and a person told how it is read."""

from __future__ import annotations

from typing import Protocol

from illada_cli.ui import Talk
from illada_core.inference.checkpoint import Checkpoint, open_checkpoint
from illada_core.model.families.family import Reading


class Asked(Protocol):
    """The options that say which checkpoint, and how it is to be read."""

    @property
    def ckpt(self) -> str: ...
    @property
    def mask_id(self) -> int | None: ...
    @property
    def attention(self) -> str | None: ...
    @property
    def shift(self) -> bool | None: ...


def open_asked(asked: Asked, talk: Talk) -> Checkpoint:
    """Open the checkpoint that options name. Raises CheckpointError or UsageError."""
    reading = Reading(asked.attention, asked.shift)
    checkpoint = open_checkpoint(asked.ckpt, asked.mask_id, reading)
    if checkpoint.told_reading:
        talk.say(checkpoint.told_reading)
    return checkpoint
