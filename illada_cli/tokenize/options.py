"""What may be asked of `illada tokenize`: its options, and all of them as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli import options as shared
from illada_cli.options import INPUT, OUTPUT
from illada_cli.ui import Talk
from illada_core.places import path_of

VOCABULARY = "Vocabulary"
STDOUT = Path("-")


@dataclass(frozen=True)
class TokenizeOptions:
    """What a person asked of one `illada tokenize`, as the options have it."""

    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders or globs; - is standard input, hf:OWNER/NAME#SPLIT a hub dataset.",
        ),
    ]
    tokenizer: shared.TokenizerFile = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write; without it ids go to stdout.",
            rich_help_panel=OUTPUT,
            parser=path_of,
        ),
    ] = None
    format: Annotated[
        Literal["auto", "text", "lines", "jsonl"],
        typer.Option(
            "--format",
            help="What a document is: a whole file, a line, or an object of JSON.",
            rich_help_panel=INPUT,
        ),
    ] = "auto"
    text_key: Annotated[
        str,
        typer.Option(
            "--text-key", metavar="KEY", help="Key or column of the text.", rich_help_panel=INPUT
        ),
    ] = "text"
    encoding: Annotated[
        str,
        typer.Option(
            "--encoding",
            metavar="NAME",
            help="What text files are encoded in; auto finds out for each.",
            rich_help_panel=INPUT,
        ),
    ] = "utf-8"
    scan: Annotated[
        bool,
        typer.Option(
            "--scan",
            help="Read all inputs first, and name all that cannot be used.",
            rich_help_panel=INPUT,
        ),
    ] = False
    glob: Annotated[
        list[str],
        typer.Option(
            "--glob",
            metavar="PATTERN",
            help="Take only such files of a folder: *.py; !*/test/* leaves such out.",
            rich_help_panel=INPUT,
        ),
    ] = field(default_factory=list)
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(
            "--on-error",
            help="At a document that cannot be used: stop, or leave it out and count it.",
            rich_help_panel=INPUT,
        ),
    ] = "stop"
    train_vocab: Annotated[
        int | None,
        typer.Option(
            "--train-vocab", metavar="SIZE", help="Train a vocabulary.", rich_help_panel=VOCABULARY
        ),
    ] = None
    eos: Annotated[
        str | None,
        typer.Option(
            "--eos",
            metavar="TOKEN",
            help="The token that ends a document.",
            rich_help_panel=VOCABULARY,
        ),
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask",
            metavar="TOKEN",
            help="The token that hides others; a new one is added.",
            rich_help_panel=VOCABULARY,
        ),
    ] = None
    engine: Annotated[
        Literal["auto", "fastokens", "tokenizers"],
        typer.Option("--engine", help="Library that encodes.", rich_help_panel=VOCABULARY),
    ] = "auto"
    decode: Annotated[
        bool,
        typer.Option("--decode", help="Turn ids back into text.", rich_help_panel=OUTPUT),
    ] = False
    shard_tokens: Annotated[
        int,
        typer.Option("--shard-tokens", min=1, help="Tokens in a shard.", rich_help_panel=OUTPUT),
    ] = 1 << 27
    part: shared.Part = None
    merge: shared.Merge = False
    executor: shared.Executor = "local"
    workers: shared.Workers = None
    fresh: shared.Fresh = False
    dry_run: shared.DryRun = False
    as_json: shared.Json = False
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @property
    def folder(self) -> Path | None:
        """Where a dataset goes, None if ids or text go to stdout."""
        return None if self.output == STDOUT else self.output

    @cached_property
    def talk(self) -> Talk:
        """Where the verb speaks."""
        return Talk(self.quiet, self.verbose)
