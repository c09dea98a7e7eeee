"""`illada generate`: prompts in, new text out."""

from __future__ import annotations

from illada_cli.cores import share_cores
from illada_cli.generate.options import GenerateOptions, check
from illada_cli.options import takes_options
from illada_cli.ui import Talk


@takes_options
def generate(asked: GenerateOptions) -> None:
    """Continue prompts, answer conversations, or fill the gaps of a text.

    \b
    Examples:
      illada generate --ckpt runs/demo "def fibonacci(n):" --max-new-tokens 64
      echo "Once upon a time" | illada generate --ckpt DIR --stream
      illada generate --ckpt DIR --chat "Why is the sky blue?" --preset gsm8k-instruct
      illada generate --ckpt DIR --jsonl prompts.jsonl --json | jq -r .text
      illada generate --ckpt DIR --jsonl prompts.jsonl -o texts.jsonl
      illada generate --ckpt DIR --infill $'def f(x):\\n[MASK:12]\\n    return y'

    A line of JSON Lines holds prompt, messages, prompt_ids or infill. Texts come out in the
    order of their prompts. The same prompt and seed give the same text in any company.
    """
    talk = Talk(asked.quiet, asked.verbose)
    check(asked, talk)
    from illada_cli.generate.input import read_input

    requests = read_input(asked, talk)
    talk.say(f"loading {asked.ckpt}")
    share_cores()
    from illada_cli.generate.run import run

    run(asked, requests, talk)
