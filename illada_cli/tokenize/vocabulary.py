"""Training a vocabulary on a terminal: in a thread, so that a signal is heard at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from illada_cli import ui
from illada_cli.corpus import event_viewer, total_bytes
from illada_cli.signals import Stop, stop_on_signals
from illada_cli.tokenize.options import STDOUT, TokenizeOptions
from illada_core.data.build import vocabulary
from illada_core.data.sources.listing import Source
from illada_core.errors import SIGNAL_EXIT_BASE, UsageError
from illada_core.files import make_folder, writing_file
from illada_core.places import url_of
from illada_core.text.tokenizer_files import TOKENIZER_FILE

WAIT_S = 0.1
FRESH_HINT = "use --fresh to replace it, or another file with -o"


def vocabulary_file(output: Path | None, fresh: bool) -> Path | None:
    """Return where a vocabulary goes, None for stdout; UsageError if something else is there."""
    if output is None:
        raise UsageError("a vocabulary needs a file", f"name it with -o {TOKENIZER_FILE}")
    if output == STDOUT:
        return None
    if url_of(output):
        raise UsageError(f"a vocabulary is written to a file here, not to {output}")
    path = output / TOKENIZER_FILE if output.is_dir() else output
    if not fresh and (there := vocabulary.files_in_the_way(path)):
        raise UsageError(f"{there[0]} exists", FRESH_HINT)
    return path


def make(sources: Sequence[Source], size: int, path: Path | None, asked: TokenizeOptions) -> None:
    """Train a vocabulary and write it to a file, or to stdout without one."""
    if path is None:
        print(json.dumps(train(sources, size, asked), ensure_ascii=False))
        return
    make_folder(path.absolute().parent)
    with writing_file(path):
        if path.exists() and not asked.fresh:
            asked.talk.say(f"{path} exists: training to see whether it is the same vocabulary")
        content = train(sources, size, asked)
        if not asked.fresh and vocabulary.is_another(content, path):
            raise UsageError(f"{path} exists, and is another vocabulary", FRESH_HINT)
        vocabulary.write_vocabulary(content, path)
    asked.talk.say(f"{ui.plural(len(content['model']['vocab']), 'token')}")
    print(ui.printable(str(path)))


def train(sources: Sequence[Source], size: int, asked: TokenizeOptions) -> dict[str, Any]:
    """Return the tokenizer.json of a vocabulary; say how it goes, and leave when a signal asks."""
    talk = asked.talk
    total = total_bytes(sources)
    share = vocabulary.share_to_train_on(sources)
    if share < 1:
        talk.say(f"a large corpus: every {1 / share:.0f}th document is trained on")
    with (
        stop_on_signals("leaving without a vocabulary") as stop,
        talk.progress("read", total, "B") as advance,
    ):

        def texts() -> Iterator[str]:
            yield from vocabulary.texts_to_train_on(
                sources, asked.text_key, asked.on_error, event_viewer(advance, talk)
            )
            talk.say("read all, merging pairs")

        content = wait_for(lambda: vocabulary.train_vocabulary(texts(), size), stop)
    if (found := len(content["model"]["vocab"])) < size:
        talk.warn(f"the text holds pairs for {ui.plural(found, 'token')} only, not {size:,}")
    return content


def wait_for(work: Callable[[], Any], stop: Stop) -> Any:
    """Do work in a thread and return its result; leave at once when a signal asks."""
    outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    Thread(target=run, daemon=True).start()
    while True:
        try:
            result, error = outcome.get(timeout=WAIT_S)
        except Empty:
            if stop.signal_number is None:
                continue
            # The library cannot be interrupted, and must not see the interpreter go.
            sys.stderr.flush()
            os._exit(SIGNAL_EXIT_BASE + stop.signal_number)
        if error:
            raise error
        return result
