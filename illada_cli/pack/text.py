"""`illada pack` of text and of chat examples: what is tokenized on the way, inside the output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from illada_cli import ui
from illada_cli.pack.inspection import facts_table
from illada_core.errors import DataError, UsageError

if TYPE_CHECKING:
    from illada_core.data.build.documents import Job, OnError
    from illada_core.data.build.fitting import ChatFormat
    from illada_core.data.pack.rows import PackSettings
    from illada_core.data.sources.listing import Source

MORE_OPTIONS = (
    "illada tokenize has options for that (--on-error, --text-key, --eos); then pack its output"
)
NAME_EOS = 'name it as "eos_token" in tokenizer_config.json, beside tokenizer.json'
# What is taken of a folder of chat examples.
CHAT_FILES = tuple(f"*.{kind}{pressed}" for kind in ("jsonl", "ndjson") for pressed in ("", ".*"))


def default_output(inputs: Sequence[str], is_chat: bool) -> Path:
    """Return `INPUT-packed` beside the only INPUT; of chat examples without .jsonl and the like."""
    from illada_core.data.sources.listing import COMPRESSIONS, LAYOUTS, STDIN

    if len(inputs) > 1 or inputs[0] == STDIN:
        given = "standard input" if inputs[0] == STDIN else "more than one input"
        raise UsageError(f"{given} gives the output no name", "name a folder with -o")
    path = Path(inputs[0])
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", "other inputs need -o")
    path = path if path.name else path.resolve()
    name = path.name
    for suffix in (*COMPRESSIONS, *LAYOUTS) if is_chat else ():
        name = name.removesuffix(suffix) or name
    return path.with_name(name + "-packed")


def chat_format(
    is_chat: bool,
    settings: PackSettings,
    on_long: Literal["drop", "cut"] | None,
    eos_padding: int,
    on_error: OnError,
) -> ChatFormat | None:
    """Return how examples become documents, None for text; UsageError for options text lacks."""
    from illada_core.data.build.fitting import ChatFormat

    if is_chat:
        on_long = on_long or ("drop" if settings.mode == "fit" else None)
        return ChatFormat(settings.sequence_length if on_long else None, on_long, eos_padding)
    given = {"--on-long": on_long, "--eos-padding": eos_padding, "--on-error": on_error == "skip"}
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} is for chat examples",
                "add --chat if INPUT holds such; illada tokenize has --on-error for text",
            )
    return None


def find_dataset(inputs: Sequence[str], is_chat: bool) -> Path | None:
    """Return the token dataset that is to be packed, None if the inputs are text."""
    from illada_core.data.store.dataset import is_token_dataset

    datasets = [path for path in map(Path, inputs) if is_token_dataset(path)]
    if not datasets:
        return None
    if is_chat:
        raise UsageError(
            f"{datasets[0]} is a token dataset, and --chat is for JSON Lines",
            "leave --chat away: tokens of chat examples are known as such",
        )
    if len(inputs) > 1:
        raise UsageError("token datasets are packed one at a time")
    return datasets[0]


def find_job(
    inputs: Sequence[str], tokenizer: Path | None, output: Path, chat: ChatFormat | None
) -> Job:
    """Find text or examples, and the tokenizer; UsageError if one cannot be used as it is."""
    from illada_cli.tokenize.dataset import no_input, open_tokenizer
    from illada_core.data.build.documents import Job
    from illada_core.data.sources.listing import list_sources

    file = find_tokenizer_of(inputs, tokenizer, chat)
    own = no_input(file, output)
    if chat:
        sources = list_sources(inputs, "chat", CHAT_FILES, own)
        refuse_other_layouts(sources)
    else:
        sources = list_sources(inputs, exclude=own)
    job = Job(sources, open_tokenizer(file, "auto"), "text", chat=chat)
    if job.tokenizer.special.eos is None:
        noun, hint = ("an example", NAME_EOS) if chat else ("a document", MORE_OPTIONS)
        raise UsageError(f"{file} does not say which token ends {noun}", hint)
    return job


def find_tokenizer_of(
    inputs: Sequence[str], tokenizer: Path | None, chat: ChatFormat | None
) -> Path:
    """Return the tokenizer: the one given, for text also the one beside it; UsageError if none."""
    from illada_cli.tokenize.dataset import find_tokenizer

    if chat and tokenizer is None:
        raise UsageError(
            "no tokenizer: give one with --tokenizer",
            "the model that is to be fine-tuned has it: its folder will do",
        )
    return find_tokenizer(inputs, tokenizer)


def refuse_other_layouts(sources: Sequence[Source]) -> None:
    """Raise UsageError for what cannot be read line by line."""
    for source in sources:
        if source.layout != "chat":
            raise UsageError(
                f"{source.name} cannot be read as chat examples",
                "--chat takes JSON Lines: .jsonl, .jsonl.gz, .jsonl.zst, or - for standard input",
            )


def tokenize_first(
    job: Job, output: Path, on_error: OnError, workers: int | None, fresh: bool, talk: ui.Talk
) -> Path:
    """Turn text into a token dataset inside the output, where it is kept, and return its folder."""
    from illada_cli.tokenize.dataset import counted, left_out, worker_count, write_tokens
    from illada_core.data.build.documents import KEY_HINT, SKIP_HINT, make_room
    from illada_core.data.sources.listing import STDIN

    folder = output / "tokens"
    make_room(job, folder, fresh)
    if job.chat and job.tokenizer.chat_template is None:
        talk.say("the tokenizer has no chat template: using the plain one")
    if any(source.path == STDIN for source in job.sources) and sys.stdin.isatty():
        talk.say("reading from the terminal, Ctrl-D ends the text")
    try:
        report = write_tokens(job, folder, worker_count(workers), on_error, talk)
    except DataError as error:
        is_about_text = error.hint in (SKIP_HINT, KEY_HINT) and not job.chat
        raise DataError(error.sentence, MORE_OPTIONS if is_about_text else error.hint) from error
    noun = "example" if job.chat else "document"
    documents = counted(report.documents, noun)
    talk.say(f"tokens: {report.tokens:,} tokens of {documents} in {folder}")
    if report.cut:
        talk.say(f"cut to fit a row: {counted(report.cut, noun)}")
    if report.skipped:
        talk.say(left_out(report, noun))
    return folder


def show_text_plan(job: Job, output: Path, as_json: bool) -> None:
    """Print what would be tokenized first; how many rows that makes is known only afterwards."""
    facts = {
        "inputs": len(job.sources),
        "bytes": sum(item.bytes for item in job.sources),
        "tokenizer": str(job.tokenizer.files.path),
        "vocab_size": job.tokenizer.vocab_size,
        "engine": job.tokenizer.engine,
    }
    if job.chat:
        template = "plain" if job.tokenizer.chat_template is None else "the tokenizer's"
        facts |= {"chat_template": template, **vars(job.chat)}
    if as_json:
        print(json.dumps({"dataset": str(output / "tokens"), **facts}))
    else:
        print(ui.printable(f"{output / 'tokens'} would be made first, of"))
        print(ui.printable(facts_table(facts)))
