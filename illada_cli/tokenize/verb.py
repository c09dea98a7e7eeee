"""`illada tokenize`: text to a token dataset, text to ids and back, text to a vocabulary."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from illada_cli import ui
from illada_cli.options import OUTPUT, DryRun, Fresh, Json, Quiet, TokenizerFile, Verbose, Workers
from illada_core.errors import UsageError

if TYPE_CHECKING:
    from illada_core.data.build.documents import Job, OnError
    from illada_core.data.sources.listing import Source
    from illada_core.text.tokenizer import Tokenizer

INPUT = "Input"
VOCABULARY = "Vocabulary"
STDOUT = Path("-")

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders or globs; - is standard input, hf:OWNER/NAME#SPLIT a hub dataset.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Where to write; without it ids go to stdout.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    Literal["auto", "text", "lines", "jsonl"],
    typer.Option(
        "--format",
        help="What a document is: a whole file, a line, or a JSON object a line.",
        rich_help_panel=INPUT,
    ),
]
TextKey = Annotated[
    str, typer.Option("--text-key", help="Key or column of the text.", rich_help_panel=INPUT)
]
Glob = Annotated[
    list[str] | None,
    typer.Option(
        "--glob",
        help="Take only such files of a folder: *.py; !*/test/* leaves such out.",
        rich_help_panel=INPUT,
    ),
]
OnErrorOption = Annotated[
    Literal["stop", "skip"],
    typer.Option(
        "--on-error",
        help="At a document that cannot be used: stop, or leave it out and count it.",
        rich_help_panel=INPUT,
    ),
]
TrainVocab = Annotated[
    int | None,
    typer.Option(
        "--train-vocab", metavar="SIZE", help="Train a vocabulary.", rich_help_panel=VOCABULARY
    ),
]
Eos = Annotated[
    str | None,
    typer.Option(
        "--eos", metavar="TOKEN", help="The token that ends a document.", rich_help_panel=VOCABULARY
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="TOKEN",
        help="The token that hides others; a new one is added.",
        rich_help_panel=VOCABULARY,
    ),
]
EngineOption = Annotated[
    Literal["auto", "fastokens", "tokenizers"],
    typer.Option("--engine", help="Library that encodes.", rich_help_panel=VOCABULARY),
]
Decode = Annotated[
    bool,
    typer.Option("--decode", help="Turn ids back into text.", rich_help_panel=OUTPUT),
]
ShardTokens = Annotated[
    int,
    typer.Option("--shard-tokens", min=1, help="Tokens in a shard.", rich_help_panel=OUTPUT),
]


def tokenize(
    inputs: Inputs,
    tokenizer: TokenizerFile = None,
    output: Output = None,
    format: Format = "auto",
    text_key: TextKey = "text",
    glob: Glob = None,
    on_error: OnErrorOption = "stop",
    train_vocab: TrainVocab = None,
    eos: Eos = None,
    mask: Mask = None,
    engine: EngineOption = "auto",
    decode: Decode = False,
    shard_tokens: ShardTokens = 1 << 27,
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

    A file of any suffix is one document; .jsonl, .parquet and .arrow hold one in each record, and
    .gz and .zst are read as what they hold. Every document ends with one end token, and control
    strings in the text stay text. A run that was interrupted goes on where it was when the same
    command is run again.
    """
    from illada_cli.tokenize.dataset import find_tokenizer, no_input, open_tokenizer, worker_count
    from illada_core.data.build.documents import Job
    from illada_core.data.sources.listing import list_sources

    talk = ui.Talk(quiet, verbose)
    to_stdout = output is None or output == STDOUT
    if "-" in inputs and sys.stdin.isatty():
        talk.say("reading from the terminal, Ctrl-D ends the text")

    if decode:
        from illada_cli.tokenize.pipe import print_texts

        if train_vocab is not None or not to_stdout:
            raise UsageError("--decode writes text to stdout", "leave -o and --train-vocab away")
        reader = open_tokenizer(find_tokenizer(inputs, tokenizer), "tokenizers")
        print_texts(inputs, reader, "jsonl" if as_json else format, text_key)
        return

    if train_vocab is not None:
        from illada_cli.tokenize.vocabulary import train, vocabulary_file

        path = vocabulary_file(output, fresh)
        sources = list_sources(inputs, format, glob or (), no_input(path))
        if dry_run:
            show_facts(facts_of_sources(sources), as_json)
        else:
            train(sources, train_vocab, path, text_key, on_error, talk)
        return

    file = find_tokenizer(inputs, tokenizer)
    sources = list_sources(inputs, format, glob or (), no_input(file, output))
    # Printing is slower than either library, and tokenizers loads three times faster.
    engine = "tokenizers" if to_stdout and engine == "auto" else engine
    encoder = open_tokenizer(file, engine, eos, mask)
    if dry_run:
        facts = {**facts_of_sources(sources), **facts_of_tokenizer(encoder)}
        if output and not to_stdout:
            facts |= facts_of_output(Job(sources, encoder, text_key, shard_tokens), output, fresh)
        show_facts(facts, as_json)
    elif output is None or to_stdout:
        from illada_cli.tokenize.pipe import print_ids

        print_ids(sources, encoder, text_key, on_error, worker_count(workers), as_json, talk)
    else:
        job = Job(sources, encoder, text_key, shard_tokens)
        make_dataset(job, output, worker_count(workers), on_error, fresh, as_json, talk)


def make_dataset(
    job: Job,
    output: Path,
    workers: int,
    on_error: OnError,
    fresh: bool,
    as_json: bool,
    talk: ui.Talk,
) -> None:
    """Write the dataset; its folder is the answer, what is in it is talk."""
    from illada_cli.tokenize.dataset import summary, write_tokens
    from illada_core.data.build.documents import make_room

    make_room(job, output, fresh)
    talk.detail(f"encoding with {job.tokenizer.engine}, {workers} threads")
    started = time.monotonic()
    report = write_tokens(job, output, workers, on_error, talk)
    seconds = time.monotonic() - started
    for line in summary(report, seconds):
        talk.say(line)
    described = {"output": str(output), **asdict(report), "seconds": round(seconds, 3)}
    print(json.dumps(described) if as_json else ui.printable(str(output)))


def facts_of_sources(sources: Sequence[Source]) -> dict[str, Any]:
    """Return what a dry run says of the inputs."""
    layouts = Counter(source.layout for source in sources)
    return {
        "inputs": len(sources),
        "bytes": sum(source.bytes for source in sources),
        "layouts": dict(sorted(layouts.items())),
        "first": sources[0].name,
        "last": sources[-1].name,
    }


def facts_of_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what a dry run says of the tokenizer."""
    return {
        "tokenizer": str(tokenizer.files.path),
        "vocab_size": tokenizer.vocab_size,
        "special_ids": asdict(tokenizer.special),
        "engine": tokenizer.engine,
    }


def facts_of_output(job: Job, output: Path, fresh: bool) -> dict[str, Any]:
    """Return what a dry run says of the output; UsageError if the real run would refuse it."""
    from illada_core.data.build.documents import finished_shards

    shards = 0 if fresh else finished_shards(job, output)
    return {"output": str(output), "eos": job.eos_id, "finished_shards": shards}


def show_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts as a table or as JSON."""
    from illada_cli.pack.inspection import facts_table

    print(json.dumps(facts) if as_json else ui.printable(facts_table(facts)))
