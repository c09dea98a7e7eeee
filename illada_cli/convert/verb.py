"""`illada convert`: a model folder written anew."""

from __future__ import annotations

from illada_cli.convert.options import ConvertOptions, check
from illada_cli.options import takes_options
from illada_cli.ui import Talk


@takes_options
def convert(asked: ConvertOptions) -> None:
    """Write a model in another layout or dtype, with a mask token or adapters, or in other shards.

    \b
    Examples:
      illada convert LLaDA-8B-Base -o llada-as-illada --layout illada --verify
      illada convert runs/first/model -o small --dtype bfloat16 --shard-size 500MB
      illada convert SmolLM2-135M -o donor --add-mask --card
      illada convert a2d-model -o told --attention full
      illada convert iLLaDA-8B-Base -o tuned --merge-lora runs/tuned/adapter

    Tokenizer, chat template and generation defaults travel along. The folder is complete or
    absent. What a layout cannot say (biases, another attention) is refused by its name.
    """
    talk = Talk(asked.quiet, asked.verbose)
    check(asked)
    from illada_cli.convert.run import run

    run(asked, talk)
