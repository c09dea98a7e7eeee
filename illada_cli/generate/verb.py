"""`illada generate`: its options, and what may be told before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options
from illada_cli.options import INPUT, OUTPUT
from illada_cli.settings import takes_settings
from illada_cli.ui import Talk
from illada_core.errors import UsageError
from illada_core.inference.settings import CHOICE, Settings

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
class Output:
    """How texts are written: JSON objects, a stream, several a prompt, each commit to a file."""

    as_json: bool
    stream: bool
    samples: int
    trace: Path | None


@takes_settings
def generate(
    ckpt: options.Ckpt,
    prompt: Prompt = None,
    file: File = None,
    jsonl: options.JsonlFile = None,
    infill: Infill = None,
    chat: options.Chat = False,
    system: System = None,
    bos: options.Bos = None,
    truncate: options.Truncate = None,
    on_error: options.OnError = "stop",
    *,
    settings: Settings,
    samples: Samples = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    mask_id: options.MaskId = None,
    batch_tokens: options.BatchTokens = None,
    as_json: options.Json = False,
    stream: Stream = False,
    trace: TraceFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Continue prompts, answer conversations, or fill the gaps of a text.

    \b
    Examples:
      illada generate --ckpt runs/demo "def fibonacci(n):" --max-new-tokens 64
      echo "Once upon a time" | illada generate --ckpt DIR --stream
      illada generate --ckpt DIR --chat "Why is the sky blue?" --preset gsm8k-instruct
      illada generate --ckpt DIR --jsonl prompts.jsonl --json | jq -r .text
      illada generate --ckpt DIR --infill $'def f(x):\\n[MASK:12]\\n    return y'

    A line of JSON Lines holds prompt, messages, prompt_ids or infill. Texts come out in the
    order of their prompts. The same prompt and seed give the same text in any company.
    """
    talk = Talk(quiet, verbose)
    output = Output(as_json, stream, samples, trace)
    check_output(output)
    if settings.top_p < 1 and not settings.temperature:
        talk.warn("--top-p does nothing at temperature 0")
    from illada_cli.generate.input import Input, read_input

    requests = read_input(Input(prompt, file, jsonl, infill, chat, system, on_error), talk)
    talk.say(f"loading {ckpt}")
    from illada_cli.generate.run import run
    from illada_core.inference.requests import Prompting

    model = options.ModelOptions(ckpt, device, dtype, mask_id, batch_tokens)
    run(requests, model, settings, Prompting(bos, truncate), output, talk)


def check_output(output: Output) -> None:
    """Raise UsageError for an output that cannot be."""
    if output.as_json and output.stream:
        raise UsageError("--json writes whole objects, so it cannot --stream")
    if output.trace and not output.trace.parent.is_dir():
        raise UsageError(f"there is no folder {output.trace.parent} to write the trace to")
    if output.trace and output.trace.is_dir():
        raise UsageError(f"{output.trace} is a folder, not a file to write the trace to")
