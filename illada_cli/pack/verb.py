"""`illada pack`: documents to rows of training tokens. Also describes and checks datasets."""

from __future__ import annotations

from illada_cli.options import DryRun, Fresh, Json, Quiet, Seed, TokenizerFile, Verbose, Workers
from illada_cli.pack import options
from illada_cli.ui import Talk


def pack(
    inputs: options.Inputs = None,
    output: options.Output = None,
    sequence_length: options.SequenceLength = 8192,
    mode: options.Mode = "stream",
    segments: options.Segments = None,
    shuffle: options.Shuffle = True,
    seed: Seed = 0,
    holdout: options.Holdout = 0.005,
    tokenizer: TokenizerFile = None,
    chat: options.Chat = False,
    on_long: options.OnLong = None,
    eos_padding: options.EosPadding = 0,
    on_error: options.OnErrorOption = "stop",
    skip_limit: options.SkipLimit = 0.1,
    date: options.Date = None,
    workers: Workers = None,
    stats: options.Stats = None,
    verify: options.Verify = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pack documents or chat examples into rows of training tokens, and hold some out.

    \b
    Examples:
      illada pack tokens/                           full rows of 8192, as in the paper
      illada pack tokens/ --mode fit -o fit/        whole documents, best fit
      illada pack corpus/ --tokenizer T.json        tokenize on the way
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

    run(
        options.PackOptions(
            inputs=inputs or [],
            output=output,
            sequence_length=sequence_length,
            mode=mode,
            segments=segments,
            shuffle=shuffle,
            seed=seed,
            holdout=holdout,
            tokenizer=tokenizer,
            chat=chat,
            on_long=on_long,
            eos_padding=eos_padding,
            on_error=on_error,
            skip_limit=skip_limit,
            date=date.date() if date else None,
            workers=workers,
            stats=stats,
            verify=verify,
            fresh=fresh,
            dry_run=dry_run,
            as_json=as_json,
            talk=Talk(quiet, verbose),
        )
    )
