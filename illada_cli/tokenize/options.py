"""What may be asked of `illada tokenize`: its options, and all of them as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli.options import INPUT, OUTPUT
from illada_cli.ui import Talk

VOCABULARY = "Vocabulary"
STDOUT = Path("-")

Wanted = Literal["auto", "text", "lines", "jsonl"]
OnError = Literal["stop", "skip"]
Engine = Literal["auto", "fastokens", "tokenizers"]

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders or globs; - is standard input, hf:OWNER/NAME#SPLIT a hub dataset.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Where to write; without it ids go to stdout.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    Wanted,
    typer.Option(
        "--format",
        help="What a document is: a whole file, a line, or an object of JSON.",
        rich_help_panel=INPUT,
    ),
]
TextKey = Annotated[
    str, typer.Option("--text-key", help="Key or column of the text.", rich_help_panel=INPUT)
]
Encoding = Annotated[
    str,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="What text files are encoded in; auto finds out for each.",
        rich_help_panel=INPUT,
    ),
]
Scan = Annotated[
    bool,
    typer.Option(
        "--scan",
        help="Read all inputs first, and name all that cannot be used.",
        rich_help_panel=INPUT,
    ),
]
Glob = Annotated[
    list[str] | None,
    typer.Option(
        "--glob",
        help="Take only such files of a folder: *.py; !*/test/* leaves such out.",
        rich_help_panel=INPUT,
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        help="At a document that cannot be used: stop, or leave it out and count it.",
        rich_help_panel=INPUT,
    ),
]
TrainVocab = Annotated[
    int | None,
    typer.Option(
        "--train-vocab", metavar="SIZE", help="Train a vocabulary.", rich_help_panel=VOCABULARY
    ),
]
Eos = Annotated[
    str | None,
    typer.Option(
        "--eos", metavar="TOKEN", help="The token that ends a document.", rich_help_panel=VOCABULARY
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="TOKEN",
        help="The token that hides others; a new one is added.",
        rich_help_panel=VOCABULARY,
    ),
]
EngineOption = Annotated[
    Engine,
    typer.Option("--engine", help="Library that encodes.", rich_help_panel=VOCABULARY),
]
Decode = Annotated[
    bool,
    typer.Option("--decode", help="Turn ids back into text.", rich_help_panel=OUTPUT),
]
ShardTokens = Annotated[
    int,
    typer.Option("--shard-tokens", min=1, help="Tokens in a shard.", rich_help_panel=OUTPUT),
]


@dataclass(frozen=True)
class TokenizeOptions:
    """What a person asked of one `illada tokenize`, as the options have it."""

    inputs: list[str]
    tokenizer: Path | None
    output: Path | None
    format: Wanted
    text_key: str
    encoding: str
    scan: bool
    glob: list[str]
    on_error: OnError
    train_vocab: int | None
    eos: str | None
    mask: str | None
    engine: Engine
    decode: bool
    shard_tokens: int
    workers: int | None
    fresh: bool
    dry_run: bool
    as_json: bool
    talk: Talk

    @property
    def folder(self) -> Path | None:
        """Where a dataset goes, None if ids or text go to stdout."""
        return None if self.output == STDOUT else self.output
