"""What may be asked of `illada pack`: its options, and all of them as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli import options as shared
from illada_cli.options import OUTPUT
from illada_cli.ui import Talk
from illada_core.places import path_of

ROWS = "Rows"
INSPECTION = "Inspection"
CHAT = "Chat examples"


@dataclass(frozen=True)
class PackOptions:
    """What a person asked of one `illada pack`, as the options have it."""

    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="A token dataset; or text, or with --chat examples, to tokenize on the way.",
        ),
    ] = field(default_factory=list)
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder [default: INPUT-packed].",
            rich_help_panel=OUTPUT,
            parser=path_of,
        ),
    ] = None
    sequence_length: Annotated[
        int, typer.Option("--sequence-length", min=2, help="Tokens in a row.", rich_help_panel=ROWS)
    ] = 8192
    mode: Annotated[
        Literal["stream", "fit"],
        typer.Option(
            "--mode", help="Cut the stream, or keep documents whole.", rich_help_panel=ROWS
        ),
    ] = "stream"
    segments: Annotated[
        Literal["row", "document"] | None,
        typer.Option(
            "--segments",
            help="Within what attention stays [default: row for stream, document for fit].",
            rich_help_panel=ROWS,
        ),
    ] = None
    shuffle: Annotated[
        bool,
        typer.Option("--shuffle/--no-shuffle", help="Shuffle the documents.", rich_help_panel=ROWS),
    ] = True
    seed: shared.Seed = 0
    holdout: Annotated[
        float,
        typer.Option(
            "--holdout",
            min=0.0,
            max=1.0,
            help="Share of documents for validation, chosen by their content.",
            rich_help_panel=ROWS,
        ),
    ] = 0.005
    tokenizer: shared.TokenizerFile = None
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            help="INPUT is JSON Lines (or tables) of prompt and response, or messages.",
            rich_help_panel=CHAT,
        ),
    ] = False
    on_long: Annotated[
        Literal["drop", "cut"] | None,
        typer.Option(
            "--on-long",
            help="Leave out, or cut, examples longer than a row [default: drop for fit; stream cuts"
            " rows, not examples].",
            rich_help_panel=CHAT,
            show_default=False,
        ),
    ] = None
    eos_padding: Annotated[
        int,
        typer.Option(
            "--eos-padding",
            metavar="N",
            min=0,
            help="Repeat the end token of an example up to a multiple of N tokens.",
            rich_help_panel=CHAT,
        ),
    ] = 0
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(
            "--on-error",
            help="At a line that is no example: stop, or leave it out and count it.",
            rich_help_panel=CHAT,
        ),
    ] = "stop"
    skip_limit: Annotated[
        float,
        typer.Option(
            "--skip-limit",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Fail if --on-error skip left out more than this share of the lines.",
            rich_help_panel=CHAT,
        ),
    ] = 0.1
    day: Annotated[
        datetime | None,
        typer.Option(
            "--date",
            metavar="YYYY-MM-DD",
            formats=["%Y-%m-%d"],
            help="What a chat template that asks for the date is told.",
            rich_help_panel=CHAT,
            show_default=False,
        ),
    ] = None
    part: shared.Part = None
    merge: shared.Merge = False
    executor: shared.Executor = "local"
    workers: shared.Workers = None
    stats: Annotated[
        Path | None,
        typer.Option(
            "--stats",
            metavar="DIR",
            help="Describe a dataset.",
            rich_help_panel=INSPECTION,
            parser=path_of,
        ),
    ] = None
    verify: Annotated[
        Path | None,
        typer.Option(
            "--verify",
            metavar="DIR",
            help="Check every byte of a dataset.",
            rich_help_panel=INSPECTION,
            parser=path_of,
        ),
    ] = None
    fresh: shared.Fresh = False
    dry_run: shared.DryRun = False
    as_json: shared.Json = False
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @cached_property
    def talk(self) -> Talk:
        """Where the verb speaks."""
        return Talk(self.quiet, self.verbose)

    @property
    def date(self) -> date | None:
        """What a chat template that asks for the date is told."""
        return self.day.date() if self.day else None
