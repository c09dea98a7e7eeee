"""What may be asked of `illada generate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options as shared
from illada_cli.ledger import check_ledger, ledger_path
from illada_cli.options import INPUT, OUTPUT
from illada_cli.ui import Talk
from illada_core.errors import UsageError
from illada_core.inference.settings import CHOICE, Settings


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What is to be written (one of prompt, file, jsonl and infill), by what, how, and where to."""

    ckpt: shared.Ckpt
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; none or -: from standard input.")
    ] = None
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="A text file: the prompt.", rich_help_panel=INPUT
        ),
    ] = None
    jsonl: shared.JsonlFile = None
    infill: Annotated[
        str | None,
        typer.Option(
            "--infill",
            metavar="TEXT",
            help="A text with gaps: [MASK:12] is 12 tokens, [MASK] as many as it takes.",
            rich_help_panel=INPUT,
        ),
    ] = None
    chat: shared.Chat = False
    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            help="What the system says before it; implies --chat.",
            rich_help_panel=INPUT,
        ),
    ] = None
    bos: shared.Bos = None
    truncate: shared.Truncate = None
    on_error: shared.OnError = "stop"
    settings: Settings
    samples: Annotated[
        int,
        typer.Option("--samples", help="Texts for each prompt.", min=1, rich_help_panel=CHOICE),
    ] = 1
    device: shared.Device = "auto"
    dtype: shared.Dtype = "auto"
    quantize: shared.Quantize = None
    graphs: shared.Graphs = False
    mask_id: shared.MaskId = None
    attention: shared.Attention = None
    shift: shared.Shift = None
    batch_tokens: shared.BatchTokens = None
    cache_tokens: shared.CacheTokens = None
    output: shared.OutputFile = None
    fresh: shared.Fresh = False
    as_json: shared.Json = False
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write text as its blocks complete.", rich_help_panel=OUTPUT),
    ] = False
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Write each commit as JSON Lines.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    quiet: shared.Quiet = False
    verbose: shared.Verbose = False

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is a user's message."""
        return self.chat or self.system is not None


def check(asked: GenerateOptions, talk: Talk) -> None:
    """Raise UsageError for options that contradict each other; warn of one that does nothing."""
    if asked.as_json and asked.stream:
        raise UsageError("--json writes whole objects, so it cannot --stream")
    check_output(asked)
    if asked.trace and not asked.trace.parent.is_dir():
        raise UsageError(f"there is no folder {asked.trace.parent} to write the trace to")
    if asked.trace and asked.trace.is_dir():
        raise UsageError(f"{asked.trace} is a folder, not a file to write the trace to")
    settings = asked.settings
    if settings.top_p < 1 and not settings.temperature and settings.confidence_from == "raw":
        talk.warn("--top-p does nothing at temperature 0")


def check_output(asked: GenerateOptions) -> None:
    """Raise UsageError for an output file that cannot be, or what does not go with one."""
    keep = ledger_path(asked.output)
    check_ledger(keep)
    if asked.output is not None and asked.stream:
        raise UsageError("-o writes whole lines of JSON, so it cannot --stream")
    if keep and asked.trace:
        raise UsageError(
            "--trace tells of one run, and -o may take several", "give one of them, not both"
        )
    if asked.fresh and keep is None:
        raise UsageError("--fresh replaces the file of -o, and none is named")
