"""What may be asked of `illada pack`: its options, and all of them as one value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli.options import OUTPUT
from illada_cli.ui import Talk

ROWS = "Rows"
INSPECTION = "Inspection"
CHAT = "Chat examples"

Long = Literal["drop", "cut"]
OnError = Literal["stop", "skip"]
RowMode = Literal["stream", "fit"]
SegmentKind = Literal["row", "document"]

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="A token dataset; or text, or with --chat examples, to tokenize on the way.",
    ),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="INPUT is JSON Lines (or tables) of prompt and response, or messages.",
        rich_help_panel=CHAT,
    ),
]
OnLong = Annotated[
    Long | None,
    typer.Option(
        "--on-long",
        help="Leave out, or cut, examples longer than a row [default: drop for fit; stream cuts"
        " rows, not examples].",
        rich_help_panel=CHAT,
        show_default=False,
    ),
]
EosPadding = Annotated[
    int,
    typer.Option(
        "--eos-padding",
        metavar="N",
        min=0,
        help="Repeat the end token of an example up to a multiple of N tokens.",
        rich_help_panel=CHAT,
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        help="At a line that is no example: stop, or leave it out and count it.",
        rich_help_panel=CHAT,
    ),
]
SkipLimit = Annotated[
    float,
    typer.Option(
        "--skip-limit",
        metavar="SHARE",
        min=0.0,
        max=1.0,
        help="Fail if --on-error skip left out more than this share of the lines.",
        rich_help_panel=CHAT,
    ),
]
Date = Annotated[
    datetime | None,
    typer.Option(
        "--date",
        formats=["%Y-%m-%d"],
        help="What a chat template that asks for the date is told.",
        rich_help_panel=CHAT,
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder [default: INPUT-packed].", rich_help_panel=OUTPUT),
]
SequenceLength = Annotated[
    int, typer.Option("--sequence-length", min=2, help="Tokens in a row.", rich_help_panel=ROWS)
]
Mode = Annotated[
    RowMode,
    typer.Option("--mode", help="Cut the stream, or keep documents whole.", rich_help_panel=ROWS),
]
Segments = Annotated[
    SegmentKind | None,
    typer.Option(
        "--segments",
        help="Within what attention stays [default: row for stream, document for fit].",
        rich_help_panel=ROWS,
    ),
]
Shuffle = Annotated[
    bool,
    typer.Option("--shuffle/--no-shuffle", help="Shuffle the documents.", rich_help_panel=ROWS),
]
Holdout = Annotated[
    float,
    typer.Option(
        "--holdout",
        min=0.0,
        max=1.0,
        help="Share of documents for validation, chosen by their content.",
        rich_help_panel=ROWS,
    ),
]
Stats = Annotated[
    Path | None,
    typer.Option("--stats", metavar="DIR", help="Describe a dataset.", rich_help_panel=INSPECTION),
]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify",
        metavar="DIR",
        help="Check every byte of a dataset.",
        rich_help_panel=INSPECTION,
    ),
]


@dataclass(frozen=True)
class PackOptions:
    """What a person asked of one `illada pack`, as the options have it."""

    inputs: list[str]
    output: Path | None
    sequence_length: int
    mode: RowMode
    segments: SegmentKind | None
    shuffle: bool
    seed: int
    holdout: float
    tokenizer: Path | None
    chat: bool
    on_long: Long | None
    eos_padding: int
    on_error: OnError
    skip_limit: float
    date: date | None
    workers: int | None
    stats: Path | None
    verify: Path | None
    fresh: bool
    dry_run: bool
    as_json: bool
    talk: Talk
