"""`illada tokenize` at work: which of its four tasks is meant, and a plan of it for --dry-run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from illada_cli.corpus import build_for, find_tokenizer, no_input, portion_of, show_facts
from illada_cli.tokenize.dataset import make_dataset, make_on_cluster, make_part
from illada_cli.tokenize.options import TokenizeOptions
from illada_cli.tokenize.pipe import print_ids, print_texts
from illada_cli.tokenize.vocabulary import make, vocabulary_file
from illada_core.data.build.events import Headway
from illada_core.data.build.job import Job
from illada_core.data.portion import Portion
from illada_core.data.sources.encodings import in_encoding
from illada_core.data.sources.listing import STDIN, Source, list_sources
from illada_core.data.sources.scan import refuse_bad_files, scan
from illada_core.errors import UsageError
from illada_core.places import told
from illada_core.text.tokenizer import Tokenizer, load_tokenizer


def run(asked: TokenizeOptions) -> None:
    """Decode ids, train a vocabulary, print ids or write a dataset."""
    portion = portion_of(asked.part, asked.merge, asked.fresh, asked.executor)
    on_many = asked.executor != "local" or portion or asked.merge
    if on_many and (asked.decode or asked.train_vocab is not None or not asked.folder):
        option = "--part" if portion else "--merge" if asked.merge else "--executor"
        raise UsageError(f"{option} is for datasets", "name a folder with -o")
    if STDIN in asked.inputs and sys.stdin.isatty():
        asked.talk.say("reading from the terminal, Ctrl-D ends the text")
    if asked.decode:
        if asked.train_vocab is not None or asked.folder:
            raise UsageError("--decode writes text to stdout", "leave -o and --train-vocab away")
        file = find_tokenizer(asked.inputs, asked.tokenizer)
        print_texts(asked, load_tokenizer(file, "tokenizers"))
    elif asked.train_vocab is not None:
        make_vocabulary(asked, asked.train_vocab)
    else:
        encode(asked, portion)


def make_vocabulary(asked: TokenizeOptions, size: int) -> None:
    """Train a vocabulary of the inputs, or say which inputs these are."""
    path = vocabulary_file(asked.output, asked.fresh)
    sources = sources_of(asked, no_input(path))
    if asked.on_error == "stop" or asked.scan:  # before the work, which is long
        look_through(sources, asked)
    if asked.dry_run:
        show_facts(facts_of_sources(sources), asked.as_json)
    else:
        make(sources, size, path, asked)


def encode(asked: TokenizeOptions, portion: Portion | None) -> None:
    """Turn the inputs into a dataset or print their ids, or say what would be done."""
    job = job_of(asked)
    sources, tokenizer = job.sources, job.tokenizer
    if asked.scan:
        look_through(sources, asked)
    if asked.dry_run:
        facts = {**facts_of_sources(sources), **facts_of_tokenizer(tokenizer)}
        if asked.folder:
            facts |= facts_of_output(job, asked.folder, asked.fresh)
        show_facts(facts, asked.as_json)
    elif asked.folder and portion:
        make_part(job, portion, asked.folder, asked)
    elif asked.folder and asked.executor == "ray":
        make_on_cluster(job, asked.folder, part_steps, asked)
    elif asked.folder:
        make_dataset(job, asked.folder, asked)
    else:
        print_ids(sources, tokenizer, asked)


def job_of(asked: TokenizeOptions) -> Job:
    """Find the inputs and the tokenizer."""
    file = find_tokenizer(asked.inputs, asked.tokenizer)
    sources = sources_of(asked, no_input(file, asked.output))
    # Printing is slower than either library, and tokenizers loads three times faster.
    engine = "tokenizers" if not asked.folder and asked.engine == "auto" else asked.engine
    tokenizer = load_tokenizer(file, engine, asked.eos, asked.mask)
    return Job(sources, tokenizer, asked.text_key, asked.shard_tokens)


def part_steps(asked: TokenizeOptions, portion: Portion) -> Iterator[float]:
    """Do a part of a dataset without a word; yield the bytes of the sources that are done."""
    assert asked.folder
    build, workers = build_for(asked.folder), asked.workers or 1
    events = build.tokenize_part(job_of(asked), portion, asked.folder, workers, asked.on_error)
    yield from (event.source_bytes for event in events if isinstance(event, Headway))


def sources_of(asked: TokenizeOptions, exclude: set[Path]) -> list[Source]:
    """Return the inputs, and what they are encoded in."""
    return in_encoding(
        list_sources(asked.inputs, asked.format, asked.glob, exclude), asked.encoding
    )


def look_through(sources: Sequence[Source], asked: TokenizeOptions) -> None:
    """Read all inputs before the work begins; DataError that names those which cannot be used."""
    if asked.on_error == "stop":
        refuse_bad_files(sources, asked.text_key)
        return
    for fault in scan(sources, asked.text_key):
        asked.talk.say(f"will be left out: {fault.text(sources)}")


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
        "tokenizer": told(tokenizer.files.path),
        "vocab_size": tokenizer.vocab_size,
        "special_ids": asdict(tokenizer.special),
        "engine": tokenizer.engine,
    }


def facts_of_output(job: Job, output: Path, fresh: bool) -> dict[str, Any]:
    """Return what a dry run says of the output; UsageError if the real run would refuse it."""
    shards = 0 if fresh else build_for(output).count_finished_shards(job, output)
    return {
        "output": told(output),
        "eos": job.eos_id,
        "partitions": len(job.partitions),
        "finished_shards": shards,
    }
