"""`illada tokenize`: text to a token dataset, text to ids and back, text to a vocabulary."""

from __future__ import annotations

from illada_cli.options import DryRun, Fresh, Json, Quiet, TokenizerFile, Verbose, Workers
from illada_cli.tokenize import options
from illada_cli.ui import Talk


def tokenize(
    inputs: options.Inputs,
    tokenizer: TokenizerFile = None,
    output: options.Output = None,
    format: options.Format = "auto",
    text_key: options.TextKey = "text",
    encoding: options.Encoding = "utf-8",
    scan: options.Scan = False,
    glob: options.Glob = None,
    on_error: options.OnErrorOption = "stop",
    train_vocab: options.TrainVocab = None,
    eos: options.Eos = None,
    mask: options.Mask = None,
    engine: options.EngineOption = "auto",
    decode: options.Decode = False,
    shard_tokens: options.ShardTokens = 1 << 27,
    workers: Workers = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn text into a dataset of tokens, or train the vocabulary for it.

    \b
    Examples:
      illada tokenize corpus/ --train-vocab 32768 -o tokenizer.json
      illada tokenize corpus/ --tokenizer tokenizer.json -o tokens/
      illada tokenize 'web/*.jsonl.zst' --text-key content --on-error skip -o tokens/
      echo some text | illada tokenize - --tokenizer tokenizer.json
      illada tokenize - --tokenizer tokenizer.json --decode < ids.jsonl

    A file of any suffix is one document; .jsonl, .json with records, .csv, .tsv, .parquet and
    .arrow hold one in each record, and .gz and .zst are read as what they hold. Every document ends
    with one end token, and control strings in the text stay text. A run that was interrupted goes
    on where it was when the same command is run again.
    """
    from illada_cli.tokenize.run import run

    run(
        options.TokenizeOptions(
            inputs=inputs,
            tokenizer=tokenizer,
            output=output,
            format=format,
            text_key=text_key,
            encoding=encoding,
            scan=scan,
            glob=glob or [],
            on_error=on_error,
            train_vocab=train_vocab,
            eos=eos,
            mask=mask,
            engine=engine,
            decode=decode,
            shard_tokens=shard_tokens,
            workers=workers,
            fresh=fresh,
            dry_run=dry_run,
            as_json=as_json,
            talk=Talk(quiet, verbose),
        )
    )
