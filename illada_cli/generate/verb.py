"""`illada generate`: prompts in, new text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illada_cli import options
from illada_cli.generate import sampler as generation
from illada_cli.generate.options import CHOICE, Asked, settle, takes_settings
from illada_cli.options import INPUT, OUTPUT
from illada_cli.ui import Talk
from illada_core.errors import UsageError

if TYPE_CHECKING:
    from illada_cli.generate.requests import Request

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
    asked: Asked,
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
    settings = settle(asked)
    if as_json and stream:
        raise UsageError("--json writes whole objects, so it cannot --stream")
    if settings["top_p"] < 1 and not settings["temperature"]:
        talk.warn("--top-p does nothing at temperature 0")
    if trace and not trace.parent.is_dir():
        raise UsageError(f"there is no folder {trace.parent} to write the trace to")
    if trace and trace.is_dir():
        raise UsageError(f"{trace} is a folder, not a file to write the trace to")
    request = single_request(prompt, file, jsonl, infill, chat, system)
    from illada_cli.generate.requests import Room, arriving_requests, prepare_all, request_of
    from illada_cli.jsonl import JsonLines

    lines = JsonLines(jsonl, request_of, on_error, talk) if jsonl else None
    requests = arriving_requests(lines) if lines else iter([request])

    talk.say(f"loading {ckpt}")
    from illada_cli.generate.answers import Answers
    from illada_cli.generate.run import repeated, write_texts
    from illada_core.inference.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(ckpt, mask_id)
    settings = generation.completed(settings, checkpoint)
    rules = generation.rules_for(settings, checkpoint, asked.stop_id or (), talk)
    grows = settings["canvas"] == "variable"
    room = Room(settings["max_new_tokens"], grows, checkpoint.config.max_length, truncate, bos)
    arriving = prepare_all(requests, lines, checkpoint, room, talk)
    if jsonl != "-":
        # What is known must be right before the weights are loaded.
        arriving = iter(list(arriving))
    stops = settings["stop"]
    sampler = generation.load_sampler(checkpoint, rules, stops, device, dtype, batch_tokens)
    talk.detail(f"{checkpoint.folder} on {sampler.device}")
    answers = Answers(checkpoint.tokenizer, stops, as_json, stream, samples)
    write_texts(sampler, repeated(arriving, samples), answers, trace, talk)


def single_request(
    prompt: str | None,
    file: str | None,
    jsonl: str | None,
    infill: str | None,
    chat: bool,
    system: str | None,
) -> Request | None:
    """Return what the options ask for, or None if JSON Lines do. Raises UsageError."""
    from illada_cli.generate.requests import Request, read_text

    named = {"PROMPT": prompt, "--file": file, "--jsonl": jsonl, "--infill": infill}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are two inputs", "give one of them")
    is_chat = chat or system is not None
    if is_chat and (jsonl or infill):
        raise UsageError(
            "--chat is for one prompt", "in JSON Lines a conversation is given as messages"
        )
    from_stdin = "-" in (prompt, file, jsonl) or not given
    if from_stdin and sys.stdin.isatty():
        print("reading from the terminal; end with Ctrl-D", file=sys.stderr)
    if jsonl:
        return None
    if infill is not None:
        return Request("infill", infill)
    text = read_text(prompt, file)
    if not text:
        raise UsageError("the prompt is empty")
    if not is_chat:
        return Request("prompt", text)
    from illada_core.text.chat_template import Message

    turns = [Message("system", system)] if system is not None else []
    return Request("messages", [*turns, Message("user", text)])
