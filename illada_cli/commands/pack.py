"""`illada pack`: documents to rows of training tokens. Also describes and checks datasets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from illada_cli import ui
from illada_cli.inspection import check_dataset, facts_table, show_statistics
from illada_cli.options import OUTPUT, DryRun, Fresh, Json, Quiet, Seed, TokenizerFile, Workers
from illada_cli.signals import stop_on_signals
from illada_core.errors import DataError, UsageError

if TYPE_CHECKING:
    from illada_core.data.dataset import TokenDataset
    from illada_core.data.frames import Mapper
    from illada_core.data.packed import PackSettings
    from illada_core.data.tokenizing import Job

ROWS = "Rows"
INSPECTION = "Inspection"
MORE_OPTIONS = "illada tokenize has options for that (--on-error, --eos); then pack its output"

Source = Annotated[
    str | None,
    typer.Argument(metavar="INPUT", help="A token dataset, or text to tokenize on the way."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder [default: INPUT-packed].", rich_help_panel=OUTPUT),
]
SequenceLength = Annotated[
    int, typer.Option("--sequence-length", min=2, help="Tokens in a row.", rich_help_panel=ROWS)
]
Mode = Annotated[
    Literal["stream", "fit"],
    typer.Option("--mode", help="Cut the stream, or keep documents whole.", rich_help_panel=ROWS),
]
Segments = Annotated[
    Literal["row", "document"] | None,
    typer.Option(
        "--segments",
        help="Within what attention stays [default: row for stream, document for fit].",
        rich_help_panel=ROWS,
    ),
]
Shuffle = Annotated[
    bool,
    typer.Option("--shuffle/--no-shuffle", help="Shuffle the documents.", rich_help_panel=ROWS),
]
Holdout = Annotated[
    float,
    typer.Option(
        "--holdout",
        min=0.0,
        max=1.0,
        help="Share of documents for validation, chosen by their content.",
        rich_help_panel=ROWS,
    ),
]
Stats = Annotated[
    Path | None,
    typer.Option("--stats", metavar="DIR", help="Describe a dataset.", rich_help_panel=INSPECTION),
]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify",
        metavar="DIR",
        help="Check every byte of a dataset.",
        rich_help_panel=INSPECTION,
    ),
]


def pack(
    source: Source = None,
    output: Output = None,
    sequence_length: SequenceLength = 8192,
    mode: Mode = "stream",
    segments: Segments = None,
    shuffle: Shuffle = True,
    seed: Seed = 0,
    holdout: Holdout = 0.005,
    tokenizer: TokenizerFile = None,
    workers: Workers = None,
    stats: Stats = None,
    verify: Verify = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack documents into rows of training tokens, and hold some out for validation.

    \b
    illada pack tokens/                          full rows of 8192, as in the paper
    illada pack tokens/ --mode fit -o fit/       whole documents, best fit
    illada pack corpus/ --tokenizer T.json       tokenize on the way
    illada pack --stats tokens-packed/           what is in a dataset
    illada pack --verify tokens-packed/          whether every byte is sound

    The output holds train/ and validation/; illada pretrain takes it as one folder. A run that
    was interrupted goes on where it was when the same command is run again.
    """
    if [source, stats, verify].count(None) != 2:
        raise UsageError(
            "give one of INPUT, --stats DIR and --verify DIR", "see illada pack --help"
        )
    talk = ui.Talk(quiet)
    if stats:
        show_statistics(stats, as_json)
    elif verify:
        with threads(workers) as over:
            check_dataset(verify, over, as_json, talk)
    else:
        assert source is not None
        from illada_core.data.dataset import is_token_dataset
        from illada_core.data.packed import PackSettings

        segments = segments or ("document" if mode == "fit" else "row")
        settings = PackSettings(sequence_length, mode, segments, shuffle, seed, holdout)
        output = output or default_output(source)
        if is_token_dataset(Path(source)):
            folder, file = Path(source), tokenizer
        elif dry_run:
            show_text_plan(source, tokenizer, output, as_json)
            return
        else:
            folder, file = tokenize_text(source, tokenizer, output, workers, fresh, talk), None
        dataset = open_documents(folder, output)
        if dry_run:
            show_plan(dataset, output, settings, as_json)
        else:
            write_rows(dataset, output, settings, file, workers, fresh, talk)
            show_result(output, as_json, talk)


def default_output(source: str) -> Path:
    """Return `INPUT-packed` beside INPUT."""
    path = Path(source)
    if not path.exists():
        raise DataError(f"no such file or folder: {source}", "other inputs need -o")
    path = path if path.name else path.resolve()
    return path.with_name(path.name + "-packed")


def open_documents(folder: Path, output: Path) -> TokenDataset:
    """Open the documents to pack; UsageError if the output would overwrite them."""
    from illada_core.data.dataset import open_dataset

    if output.resolve() == folder.resolve():
        raise UsageError(f"{output} is the input", "name another folder with -o")
    return open_dataset(folder)


def tokenize_text(
    source: str,
    tokenizer: Path | None,
    output: Path,
    workers: int | None,
    fresh: bool,
    talk: ui.Talk,
) -> Path:
    """Turn text into a token dataset inside the output, where it is kept, and return its folder."""
    from illada_cli.tokenization import worker_count, write_tokens
    from illada_core.data.tokenizing import clear_earlier_run

    folder = output / "tokens"
    job = text_job(source, tokenizer, output)
    if fresh:
        clear_earlier_run(folder)
    try:
        report = write_tokens(job, folder, worker_count(workers), "stop", talk)
    except DataError as error:
        raise DataError(error.sentence, MORE_OPTIONS) from error
    talk.say(f"tokens: {report.tokens:,} tokens of {report.documents:,} documents in {folder}")
    return folder


def text_job(source: str, tokenizer: Path | None, output: Path) -> Job:
    """Find the text and the tokenizer; UsageError if one of them cannot be used as it is."""
    from illada_cli.tokenization import find_tokenizer, no_input, open_tokenizer
    from illada_core.data.sources import list_sources
    from illada_core.data.tokenizing import Job

    file = find_tokenizer([source], tokenizer)
    sources = list_sources([source], exclude=no_input(file, output))
    job = Job(sources, open_tokenizer(file, "auto"), "text")
    if job.tokenizer.special.eos is None:
        raise UsageError(f"{file} does not say which token ends a document", MORE_OPTIONS)
    return job


def write_rows(
    dataset: TokenDataset,
    output: Path,
    settings: PackSettings,
    tokenizer: Path | None,
    workers: int | None,
    fresh: bool,
    talk: ui.Talk,
) -> None:
    """Write the packed dataset, shard by shard, and stop in good order when a signal asks."""
    from illada_core.data.packed import clear_packed, is_finished, pack

    if fresh:
        clear_packed(output)
    if is_finished(dataset, output, settings):
        talk.say(f"{output} is complete already")
        return
    with (
        stop_on_signals("dropping the shard at hand, finished ones are kept") as stop,
        threads(workers) as over,
        talk.progress("pack", dataset.tokens, "tok") as advance,
        closing(pack(dataset, output, settings, over, tokenizer)) as steps,
    ):
        for tokens in steps:
            advance(tokens)
            if stop.requested():
                break
        else:
            return
    stop.leave(f"{output} is not finished", "run the same command again to go on")


def show_text_plan(source: str, tokenizer: Path | None, output: Path, as_json: bool) -> None:
    """Print what would be tokenized first; how many rows that makes is known only afterwards."""
    job = text_job(source, tokenizer, output)
    facts = {
        "inputs": len(job.sources),
        "bytes": sum(item.bytes for item in job.sources),
        "tokenizer": str(job.tokenizer.files.path),
        "vocab_size": job.tokenizer.vocab_size,
        "engine": job.tokenizer.engine,
    }
    if as_json:
        print(json.dumps({"dataset": str(output / "tokens"), **facts}))
    else:
        print(ui.printable(f"{output / 'tokens'} would be made first, of"))
        print(ui.printable(facts_table(facts)))


def show_plan(dataset: TokenDataset, output: Path, settings: PackSettings, as_json: bool) -> None:
    """Print what packing would write; lengths tell it all, so no token is read."""
    from illada_core.data.packed import plan_facts, plan_parts

    for plan in plan_parts(dataset, settings):
        facts = plan_facts(plan)
        if as_json:
            print(json.dumps({"dataset": str(output / plan.part.name), **facts}))
        else:
            print(ui.printable(f"{output / plan.part.name} would hold"))
            print(facts_table(facts))


def show_result(output: Path, as_json: bool, talk: ui.Talk) -> None:
    """Print the folder that was written on stdout, and what is in it on stderr."""
    from illada_core.data.dataset import TRAIN, VALIDATION, open_parts
    from illada_core.data.verify import describe

    parts = {name: describe(part) for name, part in open_parts(output).items()}
    for name, facts in parts.items():
        talk.say(
            f"{name}: {facts['rows']:,} rows, {facts['tokens']:,} tokens of "
            f"{facts['documents']:,} documents, {facts['empty_share']:.3%} empty"
        )
    if VALIDATION not in parts and parts[TRAIN]["settings"]["holdout"]:
        talk.say("no document fell into the holdout: there is no validation part")
    print(json.dumps({"output": str(output), **parts}) if as_json else ui.printable(str(output)))


@contextmanager
def threads(workers: int | None) -> Iterator[Mapper]:
    """Yield a map over frames: zstd leaves Python free, so threads are workers enough."""
    from concurrent.futures import ThreadPoolExecutor

    count = workers or os.cpu_count() or 1
    if count == 1:
        yield map
    else:
        with ThreadPoolExecutor(count) as pool:
            yield pool.map
