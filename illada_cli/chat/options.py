"""What may be asked of `illada chat`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options as shared
from illada_core.inference.settings import Settings

CONVERSATION = "Conversation"


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """With which model, how a chat begins, and how answers are written."""

    ckpt: shared.Ckpt
    system: Annotated[
        str | None,
        typer.Option("--system", help="What the system says.", rich_help_panel=CONVERSATION),
    ] = None
    load: Annotated[
        Path | None,
        typer.Option(
            "--load",
            metavar="FILE",
            help="Go on with a saved conversation.",
            rich_help_panel=CONVERSATION,
        ),
    ] = None
    truncate: shared.Truncate = None
    settings: Settings
    device: shared.Device = "auto"
    dtype: shared.Dtype = "auto"
    quantize: shared.Quantize = None
    graphs: shared.Graphs = False
    mask_id: shared.MaskId = None
    attention: shared.Attention = None
    shift: shared.Shift = None
    as_json: shared.Json = False
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False
