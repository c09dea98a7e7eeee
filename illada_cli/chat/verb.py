"""`illada chat`: a conversation in the terminal, or a line a turn without one."""

from __future__ import annotations

from illada_cli.chat.options import ChatOptions
from illada_cli.cores import share_cores
from illada_cli.options import takes_options
from illada_cli.ui import Talk


@takes_options
def chat(asked: ChatOptions) -> None:
    """Talk with a model, and see each answer come out of its masks.

    \b
    Examples:
      illada chat --ckpt DIR
      illada chat --ckpt DIR --system "Answer in one sentence." --threshold 0.9
      printf 'Hello.\\nAnd again?\\n' | illada chat --ckpt DIR
      printf 'Hello.\\n/save hello.jsonl\\n' | illada chat --ckpt DIR --json | jq -r .text

    /help lists the commands: /system /reset /regen /save /load /set /trace /stats /quit. A line
    that ends in \\ goes on in the next, and so do all lines between two \"\"\". Ctrl-C stops an
    answer and clears a line; twice at an empty prompt it leaves, as Ctrl-D does. Without a
    terminal each line is a turn.
    """
    talk = Talk(asked.quiet, asked.verbose)
    talk.say(f"loading {asked.ckpt}")
    share_cores()
    from illada_cli.chat.run import run

    run(asked, talk)
