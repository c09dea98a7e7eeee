"""`illada pack`: documents to rows of training tokens. Also describes and checks datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from illada_cli import ui
from illada_cli.options import (
    OUTPUT,
    DryRun,
    Fresh,
    Json,
    Quiet,
    Seed,
    TokenizerFile,
    Verbose,
    Workers,
)
from illada_cli.pack.inspection import check_dataset, facts_table, show_statistics
from illada_cli.signals import stop_on_signals
from illada_core.errors import UsageError

if TYPE_CHECKING:
    from illada_core.data.pack.rows import PackSettings
    from illada_core.data.store.dataset import TokenDataset
    from illada_core.data.store.frames import Mapper

ROWS = "Rows"
INSPECTION = "Inspection"
CHAT = "Chat examples"

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="A token dataset; or text, or with --chat examples, to tokenize on the way.",
    ),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="INPUT is JSON Lines of prompt and response, or messages.",
        rich_help_panel=CHAT,
    ),
]
OnLong = Annotated[
    Literal["drop", "cut"] | None,
    typer.Option(
        "--on-long",
        help="Leave out, or cut, examples longer than a row [default: drop for fit; stream cuts"
        " rows, not examples].",
        rich_help_panel=CHAT,
        show_default=False,
    ),
]
EosPadding = Annotated[
    int,
    typer.Option(
        "--eos-padding",
        metavar="N",
        min=0,
        help="Repeat the end token of an example up to a multiple of N tokens.",
        rich_help_panel=CHAT,
    ),
]
OnErrorOption = Annotated[
    Literal["stop", "skip"],
    typer.Option(
        "--on-error",
        help="At a line that is no example: stop, or leave it out and count it.",
        rich_help_panel=CHAT,
    ),
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
    inputs: Inputs = None,
    output: Output = None,
    sequence_length: SequenceLength = 8192,
    mode: Mode = "stream",
    segments: Segments = None,
    shuffle: Shuffle = True,
    seed: Seed = 0,
    holdout: Holdout = 0.005,
    tokenizer: TokenizerFile = None,
    chat: Chat = False,
    on_long: OnLong = None,
    eos_padding: EosPadding = 0,
    on_error: OnErrorOption = "stop",
    workers: Workers = None,
    stats: Stats = None,
    verify: Verify = None,
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
    "content": ...}, ...]}, put into the tokenizer's chat template. --on-long cut keeps as many
    exchanges from the beginning as fit; if the first does not, the beginning of its prompt's
    text goes. A response is never cut.
    """
    if [bool(inputs), stats is not None, verify is not None].count(True) != 1:
        raise UsageError(
            "give one of INPUT, --stats DIR and --verify DIR", "see illada pack --help"
        )
    talk = ui.Talk(quiet, verbose)
    if stats:
        show_statistics(stats, as_json)
    elif verify:
        with threads(workers) as over:
            check_dataset(verify, over, as_json, talk)
    else:
        assert inputs
        from illada_cli.pack.text import (
            chat_format,
            default_output,
            find_dataset,
            find_job,
            show_text_plan,
            tokenize_first,
        )
        from illada_core.data.pack.rows import PackSettings

        segments = segments or ("document" if mode == "fit" else "row")
        settings = PackSettings(sequence_length, mode, segments, shuffle, seed, holdout)
        examples = chat_format(chat, settings, on_long, eos_padding, on_error)
        folder = find_dataset(inputs, chat)
        output = output or default_output(inputs, chat)
        if output.resolve() in {Path(given).resolve() for given in inputs}:
            raise UsageError(f"{output} is the input", "name another folder with -o")
        if folder is None:
            job = find_job(inputs, tokenizer, output, examples)
            if dry_run:
                show_text_plan(job, output, as_json)
                return
            folder = tokenize_first(job, output, on_error, workers, fresh, talk)
            tokenizer = None  # it lies beside the tokens now
        dataset = open_documents(folder)
        if dry_run:
            show_plan(dataset, output, settings, as_json)
        else:
            write_rows(dataset, output, settings, tokenizer, workers, fresh, talk)
            show_result(output, as_json, talk)


def open_documents(folder: Path) -> TokenDataset:
    """Open the documents to pack; UsageError if they are packed already."""
    from illada_core.data.store.dataset import open_dataset, read_manifest_file

    if read_manifest_file(folder)["kind"] != "documents":
        raise UsageError(f"{folder} is packed already", "pack the dataset it came from")
    return open_dataset(folder)


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
    from illada_core.data.pack.rows import clear_packed, is_finished, pack

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


def show_plan(dataset: TokenDataset, output: Path, settings: PackSettings, as_json: bool) -> None:
    """Print what packing would write; lengths tell it all, so no token is read."""
    from illada_core.data.pack.rows import plan_facts, plan_parts

    for plan in plan_parts(dataset, settings):
        facts = plan_facts(plan)
        if as_json:
            print(json.dumps({"dataset": str(output / plan.part.name), **facts}))
        else:
            print(ui.printable(f"{output / plan.part.name} would hold"))
            print(facts_table(facts))


def show_result(output: Path, as_json: bool, talk: ui.Talk) -> None:
    """Print the folder that was written on stdout, and what is in it on stderr."""
    from illada_core.data.store.dataset import TRAIN, VALIDATION, open_parts
    from illada_core.data.store.verify import describe

    parts = {name: describe(part) for name, part in open_parts(output).items()}
    for name, facts in parts.items():
        noun = "examples" if "examples" in facts else "documents"
        talk.say(
            f"{name}: {facts['rows']:,} rows, {facts['tokens']:,} tokens of "
            f"{facts['documents']:,} {noun}, {facts['empty_share']:.3%} empty"
        )
    if VALIDATION not in parts and parts[TRAIN]["settings"]["holdout"]:
        talk.say(f"no {noun[:-1]} fell into the holdout: there is no validation part")
    print(json.dumps({"output": str(output), **parts}) if as_json else ui.printable(str(output)))


@contextmanager
def threads(workers: int | None) -> Iterator[Mapper]:
    """Yield a map over frames: zstd leaves Python free, so threads are workers enough."""
    from concurrent.futures import ThreadPoolExecutor

    from illada_cli.tokenize.dataset import worker_count

    count = worker_count(workers)
    if count == 1:
        yield map
    else:
        with ThreadPoolExecutor(count) as pool:
            yield pool.map
