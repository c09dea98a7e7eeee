"""What may be asked of `illada generate`, beside the settings of a generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from illada_cli.options import INPUT, OUTPUT
from illada_core.errors import UsageError
from illada_core.inference.settings import CHOICE

Prompt = Annotated[str | None, typer.Argument(help="The prompt; none or -: from standard input.")]
File = Annotated[
    str | None, typer.Option("--file", "-f", help="A text file: the prompt.", rich_help_panel=INPUT)
]
Infill = Annotated[
    str | None,
    typer.Option(
        "--infill",
        metavar="TEXT",
        help="A text with gaps: [MASK:12] is 12 tokens, [MASK] as many as it takes.",
        rich_help_panel=INPUT,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system", help="What the system says before it; implies --chat.", rich_help_panel=INPUT
    ),
]
Samples = Annotated[
    int,
    typer.Option("--samples", help="Texts for each prompt.", min=1, rich_help_panel=CHOICE),
]
Stream = Annotated[
    bool,
    typer.Option("--stream", help="Write text as its blocks complete.", rich_help_panel=OUTPUT),
]
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace", metavar="FILE", help="Write each commit as JSON Lines.", rich_help_panel=OUTPUT
    ),
]


@dataclass(frozen=True)
class Input:
    """The options that say what is to be written: one of prompt, file, jsonl and infill."""

    prompt: str | None
    file: str | None
    jsonl: str | None
    infill: str | None
    chat: bool
    system: str | None
    on_error: Literal["stop", "skip"]


@dataclass(frozen=True)
class Output:
    """How texts are written: JSON objects, a stream, several a prompt, each commit to a file."""

    as_json: bool
    stream: bool
    samples: int
    trace: Path | None


def check_output(output: Output) -> None:
    """Raise UsageError for an output that cannot be."""
    if output.as_json and output.stream:
        raise UsageError("--json writes whole objects, so it cannot --stream")
    if output.trace and not output.trace.parent.is_dir():
        raise UsageError(f"there is no folder {output.trace.parent} to write the trace to")
    if output.trace and output.trace.is_dir():
        raise UsageError(f"{output.trace} is a folder, not a file to write the trace to")
