"""`illada pack` of text and of chat examples: what is tokenized on the way, inside the output."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from illada_cli.corpus import (
    build_for,
    find_tokenizer,
    name_skipped,
    no_input,
    show_facts,
    worker_count,
    write_tokens,
)
from illada_cli.pack.options import PackOptions
from illada_cli.ui import plural
from illada_core.data.build.events import KEY_HINT, SKIP_HINT, Report
from illada_core.data.build.fitting import ChatFormat
from illada_core.data.build.job import Job
from illada_core.data.build.tokenizing import QUIET
from illada_core.data.sources.beginnings import is_records
from illada_core.data.sources.listing import STDIN, Source, list_sources
from illada_core.errors import DataError, UsageError
from illada_core.places import told
from illada_core.text.conversations import require_date
from illada_core.text.tokenizer import load_tokenizer

MORE_OPTIONS = (
    "illada tokenize has options for that (--on-error, --text-key, --eos); then pack its output"
)
NAME_EOS = 'name it as "eos_token" in tokenizer_config.json, beside tokenizer.json'
# What is taken of a folder of chat examples.
LINES = tuple(
    f"*.{kind}{pressed}" for kind in ("jsonl", "ndjson", "json") for pressed in ("", ".gz", ".zst")
)
CHAT_FILES = (*LINES, "*.parquet", "*.arrow")


def chat_format(asked: PackOptions) -> ChatFormat | None:
    """Return how examples become documents, None for text; UsageError for options text lacks."""
    if asked.chat:
        on_long = asked.on_long or ("drop" if asked.mode == "fit" else None)
        return ChatFormat(asked.sequence_length if on_long else None, on_long, asked.eos_padding)
    given = {
        "--on-long": asked.on_long,
        "--eos-padding": asked.eos_padding,
        "--on-error": asked.on_error == "skip",
        "--date": asked.date,
    }
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} is for chat examples",
                "add --chat if INPUT holds such; illada tokenize has --on-error for text",
            )
    return None


def chat_sources(asked: PackOptions, own: Collection[Path]) -> list[Source]:
    """List the files of examples; a .json of a folder is one only if it holds records."""
    sources = list_sources(asked.inputs, "chat", CHAT_FILES, own)
    apart = [
        source
        for source in sources
        if source.path.removesuffix(source.compression).endswith(".json")
        and source.path not in asked.inputs
        and not is_records(source.path, source.compression)
    ]
    if apart:
        names = ", ".join(source.name for source in apart[:3])
        more = f" and {len(apart) - 3:,} more" if apart[3:] else ""
        asked.talk.say(f"passed over, no lists of examples: {names}{more}")
    kept = [source for source in sources if source not in apart]
    if not kept:
        raise DataError(f"no examples in {' '.join(asked.inputs)}", "name a file to take it anyway")
    return kept


def find_job(asked: PackOptions, output: Path, chat: ChatFormat | None) -> Job:
    """Find text or examples, and the tokenizer; UsageError if one cannot be used as it is."""
    if chat and asked.tokenizer is None:
        raise UsageError(
            "no tokenizer: give one with --tokenizer",
            "the model that is to be fine-tuned has it: its folder will do",
        )
    file = find_tokenizer(asked.inputs, asked.tokenizer)
    own = no_input(file, output)
    sources = chat_sources(asked, own) if chat else list_sources(asked.inputs, exclude=own)
    tokenizer = load_tokenizer(file, "tokenizers" if chat else "auto")
    job = Job(sources, tokenizer, "text", chat=chat, date=asked.date)
    if chat and asked.date is None:
        require_date(job.tokenizer)
    if job.tokenizer.special.eos is None:
        noun, hint = ("an example", NAME_EOS) if chat else ("a document", MORE_OPTIONS)
        raise UsageError(f"{file} does not say which token ends {noun}", hint)
    return job


def tokenize_first(job: Job, output: Path, asked: PackOptions) -> Path:
    """Turn text into a token dataset inside the output, where it is kept, and return its folder."""
    folder, talk = output / "tokens", asked.talk
    build_for(folder).make_room(job, folder, asked.fresh)
    if job.chat and job.tokenizer.chat_template is None:
        talk.say("the tokenizer has no chat template: using the plain one")
    if any(source.path == STDIN for source in job.sources) and sys.stdin.isatty():
        talk.say("reading from the terminal, Ctrl-D ends the text")
    try:
        report = write_tokens(job, folder, worker_count(asked.workers), asked.on_error, talk)
    except DataError as error:
        is_about_text = error.hint in (SKIP_HINT, KEY_HINT) and not job.chat
        raise DataError(error.sentence, MORE_OPTIONS if is_about_text else error.hint) from error
    noun = "example" if job.chat else "document"
    talk.say(f"{plural(report.tokens, 'token')} of {plural(report.documents, noun)} in {folder}")
    if report.cut:
        talk.say(f"cut to fit a row: {plural(report.cut, noun)}")
    if report.skipped:
        talk.say(name_skipped(report, noun))
    if job.chat:
        check_share(report, asked.skip_limit)
    return folder


def check_share(report: Report, limit: float) -> None:
    """Raise DataError if too many lines were left out that nobody asked to leave out."""
    faults = sum(count for reason, count in report.skipped.items() if reason not in QUIET)
    share = faults / max(1, faults + report.documents)
    if share > limit:
        raise DataError(
            f"{plural(faults, 'line')} of {faults + report.documents:,} were left out, "
            f"more than {limit:.0%}",
            "mend them, or allow it with --skip-limit",
        )


def show_text_plan(job: Job, output: Path, as_json: bool) -> None:
    """Print what would be tokenized first; how many rows that makes is known only afterwards."""
    facts = {
        "inputs": len(job.sources),
        "bytes": sum(item.bytes for item in job.sources),
        "tokenizer": told(job.tokenizer.files.path),
        "vocab_size": job.tokenizer.vocab_size,
        "engine": job.tokenizer.engine,
    }
    if job.chat:
        template = "plain" if job.tokenizer.chat_template is None else "the tokenizer's"
        facts |= {"chat_template": template, **vars(job.chat)}
    folder = str(output / "tokens")
    show_facts(facts, as_json, f"{folder} would be made first, of", {"dataset": folder})
