"""`illada chat`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from illada_cli import options
from illada_cli.settings import takes_settings
from illada_cli.ui import Talk
from illada_core.inference.settings import Settings

CONVERSATION = "Conversation"

System = Annotated[
    str | None,
    typer.Option("--system", help="What the system says.", rich_help_panel=CONVERSATION),
]
Load = Annotated[
    Path | None,
    typer.Option(
        "--load",
        metavar="FILE",
        help="Go on with a saved conversation.",
        rich_help_panel=CONVERSATION,
    ),
]


@takes_settings
def chat(
    ckpt: options.Ckpt,
    system: System = None,
    load: Load = None,
    truncate: options.Truncate = None,
    *,
    settings: Settings,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    mask_id: options.MaskId = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Talk with a model, and see each answer come out of its masks.

    \b
    Examples:
      illada chat --ckpt DIR
      illada chat --ckpt DIR --system "Answer in one sentence." --threshold 0.9
      printf 'Hello.\\nAnd again?\\n' | illada chat --ckpt DIR
      printf 'Hello.\\n/save hello.jsonl\\n' | illada chat --ckpt DIR --json | jq -r .text

    \b
    /help lists the commands: /system /reset /save /load /set /trace /stats /quit. A line that
    ends in \\ goes on in the next, and so do all lines between two \"\"\". Ctrl-C stops an answer;
    at the prompt it leaves, as Ctrl-D does. Without a terminal each line is a turn.
    """
    talk = Talk(quiet, verbose)
    talk.say(f"loading {ckpt}")
    from illada_cli.chat.run import run
    from illada_core.inference.requests import Prompting

    model = options.ModelOptions(ckpt, device, dtype, mask_id)
    run(model, settings, Prompting(truncate=truncate), system, load, as_json, talk)
