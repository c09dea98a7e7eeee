"""`illada sft`: packed conversations, a base and a recipe in, a model that answers out."""

from __future__ import annotations

from illada_cli.options import takes_options
from illada_cli.train.options import SftOptions


@takes_options
def sft(asked: SftOptions) -> None:
    """Fine-tune a model on conversations by a recipe.

    Packaged recipes are 8b-sft (the paper's) and demo-sft; sizes come from the base. --resume RUN,
    or the same command again, goes on where an earlier one stopped, bit for bit. SIGINT and SIGTERM
    finish the step and save. Answers to held-out prompts come as it goes, in samples.jsonl of the
    run folder.

    \b
    Examples:
      illada pack --chat pairs.jsonl --tokenizer runs/demo/model -o pairs-packed
      illada sft demo-sft --ckpt runs/demo --data pairs-packed -o runs/chat
      illada sft --resume runs/chat
      illada sft 8b-sft --ckpt iLLaDA-8B-Base --dry-run > my.toml
      illada sft my.toml --data pairs-packed --set objective.mask=response --set lora.rank=16
      illada chat --ckpt runs/chat
    """
    from illada_cli.train.run import run

    run("sft", asked)
