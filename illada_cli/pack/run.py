"""`illada pack` at work: rows from a token dataset, or from what is tokenized on the way."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import ModuleType

from illada_cli import ui
from illada_cli.corpus import (
    GO_ON_HINT,
    MERGE_HINT,
    STOP_PROMISE,
    portion_of,
    show_facts,
    worker_count,
)
from illada_cli.executor import run_parts
from illada_cli.pack.inspection import check_dataset, show_statistics
from illada_cli.pack.options import PackOptions
from illada_cli.pack.text import chat_format, find_job, show_text_plan, tokenize_first
from illada_cli.signals import stop_on_signals
from illada_core.data.pack import delivering, portions, write
from illada_core.data.pack.plan import PackSettings, plan_facts, plan_parts
from illada_core.data.pack.portions import portion_tokens
from illada_core.data.portion import Portion
from illada_core.data.sources.listing import COMPRESSIONS, LAYOUTS, STDIN
from illada_core.data.store.dataset import TokenDataset, open_dataset, open_parts
from illada_core.data.store.frames import Mapper
from illada_core.data.store.manifest import TRAIN, VALIDATION, is_token_dataset, read_manifest_file
from illada_core.data.store.verify import describe, outline
from illada_core.errors import DataError, UsageError
from illada_core.places import is_url, path_of, told, url_of


def run(asked: PackOptions) -> None:
    """Describe a dataset, check one, or pack the inputs."""
    given = [bool(asked.inputs), asked.stats is not None, asked.verify is not None]
    if given.count(True) != 1:
        raise UsageError(
            "give one of INPUT, --stats DIR and --verify DIR", "see illada pack --help"
        )
    if asked.stats:
        show_statistics(asked.stats, asked.as_json)
    elif asked.verify:
        with mapping_threads(asked.workers) as over:
            check_dataset(asked.verify, over, asked.as_json, asked.talk)
    else:
        pack_inputs(asked)


def pack_inputs(asked: PackOptions) -> None:
    """Pack a dataset, or tokenize and pack, or say what would be done."""
    settings = settings_of(asked)
    portion = portion_of(asked.part, asked.merge, asked.fresh, asked.executor)
    chat = chat_format(asked)
    folder = find_dataset(asked)
    if folder is None and (portion or asked.merge or asked.executor != "local"):
        option = "--part" if portion else "--merge" if asked.merge else "--executor"
        raise UsageError(
            f"{option} is for token datasets, and {asked.inputs[0]} is none",
            f"illada tokenize has {option} too; then pack its output",
        )
    output = asked.output or default_output(asked)
    if output.resolve() in {path_of(given).resolve() for given in asked.inputs}:
        raise UsageError(f"{output} is the input", "name another folder with -o")
    tokenizer = asked.tokenizer
    if folder is None:
        job = find_job(asked, output, chat)
        if asked.dry_run:
            show_text_plan(job, output, asked.as_json)
            return
        folder = tokenize_first(job, output, asked)
        tokenizer = None  # it lies beside the tokens now
    dataset = open_documents(folder)
    if asked.dry_run:
        show_plan(dataset, output, settings, asked.as_json)
        return
    if asked.fresh:
        whole_at(output).clear_packed(output)
    if portion:
        write_portion(dataset, output, settings, portion, asked)
        return
    if asked.executor == "ray":
        pieces = sum(plan.windows.count for plan in plan_parts(dataset, settings))
        run_parts(part_steps, asked, output, pieces, dataset.tokens, "tok")
    if asked.merge and not whole_at(output).is_finished(dataset, output, settings):
        parts_at(output).require_shards(dataset, output, settings)
    write_rows(dataset, output, settings, tokenizer, asked)
    show_result(output, asked.as_json, asked.talk)


def settings_of(asked: PackOptions) -> PackSettings:
    """Return what was asked of the rows."""
    return PackSettings(
        asked.sequence_length,
        asked.mode,
        asked.segments or ("document" if asked.mode == "fit" else "row"),
        asked.shuffle,
        asked.seed,
        asked.holdout,
    )


def part_steps(asked: PackOptions, portion: Portion) -> Iterator[float]:
    """Write a part of the shards without a word; yield the tokens that are done."""
    folder, output = find_dataset(asked), asked.output
    assert folder is not None
    assert output is not None
    dataset, settings = open_documents(folder), settings_of(asked)
    with mapping_threads(asked.workers or 1) as over:
        yield from parts_at(output).pack_portion(dataset, output, settings, portion, over)


def whole_at(output: Path) -> ModuleType:
    """Return what writes a packed dataset there: in a folder, or at a URL."""
    return delivering if url_of(output) else write


def parts_at(output: Path) -> ModuleType:
    """Return what writes a part of one there."""
    return delivering if url_of(output) else portions


def find_dataset(asked: PackOptions) -> Path | None:
    """Return the token dataset that is to be packed, None if the inputs are text."""
    datasets = [path for path in map(path_of, asked.inputs) if is_token_dataset(path)]
    if not datasets:
        return None
    if asked.chat:
        raise UsageError(
            f"{datasets[0]} is a token dataset, and --chat is for JSON Lines",
            "leave --chat away: tokens of chat examples are known as such",
        )
    if len(asked.inputs) > 1:
        raise UsageError("token datasets are packed one at a time")
    return datasets[0]


def default_output(asked: PackOptions) -> Path:
    """Return `INPUT-packed` beside the only INPUT; of chat examples without .jsonl and the like."""
    given = asked.inputs[0]
    if len(asked.inputs) > 1 or given == STDIN or is_url(given):
        what = "standard input" if given == STDIN else "more than one input"
        what = "a URL" if is_url(given) else what
        raise UsageError(f"{what} gives the output no name", "name a folder with -o")
    path = Path(given)
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", "other inputs need -o")
    path = path if path.name else path.resolve()
    name = path.name
    for suffix in (*COMPRESSIONS, *LAYOUTS) if asked.chat else ():
        name = name.removesuffix(suffix) or name
    return path.with_name(name + "-packed")


def open_documents(folder: Path) -> TokenDataset:
    """Open the documents to pack; UsageError if they are packed already."""
    if read_manifest_file(folder)["kind"] != "documents":
        raise UsageError(f"{folder} is packed already", "pack the dataset it came from")
    return open_dataset(folder)


def write_rows(
    dataset: TokenDataset,
    output: Path,
    settings: PackSettings,
    tokenizer: Path | None,
    asked: PackOptions,
) -> None:
    """Write the packed dataset, shard by shard, and stop in good order when a signal asks."""
    if whole_at(output).is_finished(dataset, output, settings):
        asked.talk.say(f"{output} is complete already")
        return
    with mapping_threads(asked.workers) as over:
        steps = whole_at(output).pack(dataset, output, settings, over, tokenizer)
        follow_tokens(steps, "pack", dataset.tokens, output, asked.talk)


def write_portion(
    dataset: TokenDataset,
    output: Path,
    settings: PackSettings,
    portion: Portion,
    asked: PackOptions,
) -> None:
    """Write a part of the shards; the output is no dataset until all parts are merged."""
    total, title = portion_tokens(dataset, settings, portion), f"part {portion}"
    with mapping_threads(asked.workers) as over:
        steps = parts_at(output).pack_portion(dataset, output, settings, portion, over)
        tokens = follow_tokens(steps, title, total, output, asked.talk)
    if whole_at(output).is_finished(dataset, output, settings):
        asked.talk.say(f"{output} is complete already")
    else:
        asked.talk.say(f"{title}: {ui.plural(tokens, 'token')}; {MERGE_HINT}")
    described = {"output": told(output), "part": str(portion), "tokens": tokens}
    print(json.dumps(described) if asked.as_json else ui.printable(told(output)))


def follow_tokens(
    steps: Generator[int, None, None], title: str, total: int, output: Path, talk: ui.Talk
) -> int:
    """Show counts of tokens as they come and add them up; stop in good order when a signal asks."""
    done = 0
    with (
        stop_on_signals(STOP_PROMISE) as stop,
        talk.progress(title, total, "tok") as advance,
        closing(steps),
    ):
        for tokens in steps:
            advance(tokens)
            done += tokens
            if stop.requested():
                break
        else:
            return done
    stop.leave(f"{output} is not finished", GO_ON_HINT)
    return done


def show_plan(dataset: TokenDataset, output: Path, settings: PackSettings, as_json: bool) -> None:
    """Print what packing would write; lengths tell it all, so no token is read."""
    for plan in plan_parts(dataset, settings):
        part = told(output / plan.part.name)
        show_facts(plan_facts(plan), as_json, f"{part} would hold", {"dataset": part})


def show_result(output: Path, as_json: bool, talk: ui.Talk) -> None:
    """Print the folder that was written on stdout, and what is in it on stderr.

    What is at a URL is told from its manifests, without fetching what others have put there.
    """
    facts_of = outline if url_of(output) else describe
    opened = open_parts(output)
    parts = {name: facts_of(part) for name, part in opened.items()}
    noun = "example" if opened[TRAIN].has_turns else "document"
    for name, facts in parts.items():
        held = f" of {ui.plural(facts['documents'], noun)}" if "documents" in facts else ""
        talk.say(
            f"{name}: {ui.plural(facts['rows'], 'row')}, "
            f"{ui.plural(facts['tokens'], 'token')}{held}, "
            f"{facts['empty_share']:.3%} empty"
        )
    if VALIDATION not in parts and parts[TRAIN]["settings"]["holdout"]:
        talk.say(f"no {noun} fell into the holdout: there is no validation part")
    print(json.dumps({"output": told(output), **parts}) if as_json else ui.printable(told(output)))


@contextmanager
def mapping_threads(workers: int | None) -> Iterator[Mapper]:
    """Yield a map over frames: zstd leaves Python free, so threads are workers enough."""
    threads = worker_count(workers)
    if threads == 1:
        yield map
    else:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
