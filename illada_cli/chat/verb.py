"""`illada chat`: a conversation in the terminal, or a line a turn without one."""

from __future__ import annotations

from illada_cli import options as shared
from illada_cli.chat import options
from illada_cli.settings import takes_settings
from illada_cli.ui import Talk
from illada_core.inference.settings import Settings


@takes_settings
def chat(
    ckpt: shared.Ckpt,
    system: options.System = None,
    load: options.Load = None,
    truncate: shared.Truncate = None,
    *,
    settings: Settings,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    mask_id: shared.MaskId = None,
    as_json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
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

    asked = options.ChatOptions(system, load, truncate, as_json)
    run(asked, shared.ModelOptions(ckpt, device, dtype, mask_id), settings, talk)
