"""`illada generate`: prompts in, new text out."""

from __future__ import annotations

from illada_cli import options as shared
from illada_cli.generate import options
from illada_cli.settings import takes_settings
from illada_cli.ui import Talk
from illada_core.inference.settings import Settings


@takes_settings
def generate(
    ckpt: shared.Ckpt,
    prompt: options.Prompt = None,
    file: options.File = None,
    jsonl: shared.JsonlFile = None,
    infill: options.Infill = None,
    chat: shared.Chat = False,
    system: options.System = None,
    bos: shared.Bos = None,
    truncate: shared.Truncate = None,
    on_error: shared.OnError = "stop",
    *,
    settings: Settings,
    samples: options.Samples = 1,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    mask_id: shared.MaskId = None,
    batch_tokens: shared.BatchTokens = None,
    as_json: shared.Json = False,
    stream: options.Stream = False,
    trace: options.TraceFile = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
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
    output = options.Output(as_json, stream, samples, trace)
    options.check_output(output)
    if settings.top_p < 1 and not settings.temperature:
        talk.warn("--top-p does nothing at temperature 0")
    given = options.Input(prompt, file, jsonl, infill, chat, system, on_error)
    from illada_cli.generate.input import read_input

    requests = read_input(given, talk)
    talk.say(f"loading {ckpt}")
    from illada_cli.generate.run import run
    from illada_core.inference.requests import Prompting

    model = shared.ModelOptions(ckpt, device, dtype, mask_id, batch_tokens)
    run(requests, model, settings, Prompting(bos, truncate), output, talk)
