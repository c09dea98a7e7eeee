"""`illada pack`: documents to rows of training tokens. Also describes and checks datasets."""

from __future__ import annotations

from illada_cli.options import takes_options
from illada_cli.pack.options import PackOptions


@takes_options
def pack(asked: PackOptions) -> None:
    """Pack documents or chat examples into rows of training tokens, and hold some out.

    \b
    Examples:
      illada pack tokens/                           full rows of 8192, as in the paper
      illada pack tokens/ --mode fit -o fit/        whole documents, best fit
      illada pack corpus/ --tokenizer T.json        tokenize on the way
      illada pack tokens/ -o rows/ --part 3/64      one of 64 machines; then --merge
      illada pack --chat pairs.jsonl --tokenizer M/ instruction pairs
      illada pack --stats tokens-packed/            what is in a dataset
      illada pack --verify tokens-packed/           whether every byte is sound

    The output holds train/ and validation/; illada pretrain takes it as one folder. A run that
    was interrupted goes on where it was when the same command is run again.

    A line of chat examples is {"prompt": ..., "response": ...} or {"messages": [{"role": ...,
    "content": ...}, ...]}, or of ShareGPT's or Alpaca's shape, put into the tokenizer's chat
    template. --on-long cut keeps as many exchanges from the beginning as fit; if the first does
    not, the beginning of its prompt's text goes. A response is never cut.
    """
    from illada_cli.pack.run import run

    run(asked)
