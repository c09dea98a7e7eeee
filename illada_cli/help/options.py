"""What may be asked of `illada help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from illada_cli.words import Words, topics


@dataclass(frozen=True, kw_only=True)
class HelpOptions:
    """What is to be read."""

    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC]", help="A page or a verb [default: the list of pages]."),
        Words(topics),
    ] = None
