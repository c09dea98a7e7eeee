"""What may be asked of `illada chat`, beside the settings of a generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

CONVERSATION = "Conversation"

System = Annotated[
    str | None,
    typer.Option("--system", help="What the system says.", rich_help_panel=CONVERSATION),
]
Load = Annotated[
    Path | None,
    typer.Option(
        "--load",
        metavar="FILE",
        help="Go on with a saved conversation.",
        rich_help_panel=CONVERSATION,
    ),
]


@dataclass(frozen=True)
class ChatOptions:
    """How a chat begins, what is done with one that is too long, and how answers are written."""

    system: str | None
    load: Path | None
    truncate: Literal["left"] | None
    as_json: bool
