"""`illada serve`: a model behind an OpenAI-style endpoint, with a page to watch it."""

from __future__ import annotations

from illada_cli.cores import share_cores
from illada_cli.options import takes_options
from illada_cli.serve.options import ServeOptions, check
from illada_cli.ui import Talk


@takes_options
def serve(asked: ServeOptions) -> None:
    """Serve a model over HTTP, in the words of OpenAI's API, with a page that shows it at work.

    \b
    Examples:
      illada serve --ckpt runs/demo                   # then open http://127.0.0.1:8000/
      illada serve --ckpt DIR --threshold 0.9 --max-new-tokens 512
      ILLADA_API_KEY=secret illada serve --ckpt DIR --host 0.0.0.0
      curl -s localhost:8000/v1/completions -d '{"prompt": "Once", "max_tokens": 32}' | jq .

    Settings hold where a request does not say otherwise; all of them may stand in its body. Ctrl-C
    or SIGTERM lets requests end, a second one leaves at once. docs/serving.md has the rest.
    """
    talk = Talk(asked.quiet, asked.verbose)
    key = check(asked)
    talk.say(f"loading {asked.ckpt}")
    share_cores()
    from illada_cli.serve.run import run

    run(asked, key, talk)
