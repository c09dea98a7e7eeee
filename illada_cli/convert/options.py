"""What `illada convert` may be asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli import options as shared
from illada_core.errors import UsageError

SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
Layout = Literal["illada", "llada", "dream", "qwen2", "llama", "qwen3"]


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The options of `illada convert`."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Model folder, run, checkpoint or hub id.", show_default=False
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DST",
            help="The folder to write.",
            show_default=False,
            rich_help_panel=shared.OUTPUT,
        ),
    ]
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            help="Names of weights and keys of config.json [default: the source's].",
            rich_help_panel=shared.OUTPUT,
        ),
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(
            "--dtype", help="Of the weights; auto: as stored.", rich_help_panel=shared.OUTPUT
        ),
    ] = "auto"
    add_mask: Annotated[
        bool,
        typer.Option(
            "--add-mask",
            help="Add a mask token, its row the mean of the others: a spare row, or a new one.",
            rich_help_panel=shared.OUTPUT,
        ),
    ] = False
    merge_lora: Annotated[
        Path | None,
        typer.Option(
            "--merge-lora",
            metavar="DIR",
            help="Add low-rank adapters to the weights: a folder in peft's layout.",
            exists=True,
            file_okay=False,
            show_default=False,
            rich_help_panel=shared.OUTPUT,
        ),
    ] = None
    shard_size: Annotated[
        str,
        typer.Option(
            "--shard-size",
            metavar="SIZE",
            help="Most bytes of a file: 500MB, 5GB.",
            rich_help_panel=shared.OUTPUT,
        ),
    ] = "5GB"
    card: Annotated[
        bool,
        typer.Option(
            "--card", help="Write a model card, README.md.", rich_help_panel=shared.OUTPUT
        ),
    ] = False
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Load both and compare logits, which must be equal.",
            rich_help_panel=shared.OUTPUT,
        ),
    ] = False
    attention: shared.Attention = None
    shift: shared.Shift = None
    dry_run: shared.DryRun = False
    as_json: shared.Json = False
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @property
    def shard_bytes(self) -> int:
        """The most bytes of a file. Raises UsageError for what is no size."""
        match = re.fullmatch(r"(\d+)(KB|MB|GB)", self.shard_size)
        if not match or int(match[1]) == 0:
            raise UsageError(f"--shard-size is a size such as 500MB or 5GB, not {self.shard_size}")
        return int(match[1]) * SIZES[match[2]]


def check(asked: ConvertOptions) -> None:
    """Raise UsageError for options that contradict each other."""
    _ = asked.shard_bytes
    if asked.output.resolve() == Path(asked.source).resolve():
        raise UsageError("source and output are one folder", "write to a folder of its own")
