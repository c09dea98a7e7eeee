"""`illada tokenize`: text to a token dataset, text to ids and back, text to a vocabulary."""

from __future__ import annotations

from illada_cli.options import takes_options
from illada_cli.tokenize.options import TokenizeOptions


@takes_options
def tokenize(asked: TokenizeOptions) -> None:
    """Turn text into a dataset of tokens, or train the vocabulary for it.

    \b
    Examples:
      illada tokenize corpus/ --train-vocab 32768 -o tokenizer.json
      illada tokenize corpus/ --tokenizer tokenizer.json -o tokens/
      illada tokenize 'web/*.jsonl.zst' --text-key content --on-error skip -o tokens/
      illada tokenize web/ --tokenizer T.json -o tokens/ --part 3/64    one of 64 machines
      illada tokenize web/ --tokenizer T.json -o tokens/ --merge        when all 64 are done
      echo some text | illada tokenize - --tokenizer tokenizer.json
      illada tokenize - --tokenizer tokenizer.json --decode < ids.jsonl

    A file of any suffix is one document; .jsonl, .json with records, .csv, .tsv, .parquet and
    .arrow hold one in each record, and .gz and .zst are read as what they hold. Every document ends
    with one end token, and control strings in the text stay text. A run that was interrupted goes
    on where it was when the same command is run again.
    """
    from illada_cli.tokenize.run import run

    run(asked)
