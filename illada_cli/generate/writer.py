"""Texts as they come out, in the order of their prompts: on standard output, or to a file.

There as text, JSON objects or a stream; here as JSON Lines that an earlier run may have begun.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

from illada_cli import ui
from illada_cli.ledger import Ledger
from illada_core.files import json_line
from illada_core.inference.tasks import TextTask
from illada_core.inference.text_sampler import Generation, TextSampler


class TextWriter:
    """Writes generations in the order of their prompts, each as soon as it can be."""

    def __init__(self, sampler: TextSampler, as_json: bool, stream: bool, samples: int) -> None:
        self.sampler = sampler
        self.as_json, self.stream, self.samples = as_json, stream, samples
        self.finished: dict[int, str] = {}
        self.next = 0
        self.shown = ""

    def admit(self, task: TextTask, sample: int) -> bool:
        """Tell whether a text must be generated: here, always."""
        return True

    def show_settled(self, index: int) -> None:
        """Stream what has settled of the prompt whose turn it is."""
        settled = self.sampler.settled(index) if self.stream and index == self.next else None
        if settled is not None:
            self.write(settled[len(self.shown) :])
            self.shown = settled

    def complete(self, index: int, generation: Generation) -> None:
        """Take a generation, and write all whose turn has come."""
        if self.as_json:
            sample = index % self.samples if self.samples > 1 else None
            fields = answer_fields(generation, sample)
            self.finished[index] = json.dumps(fields) if sys.stdout.isatty() else json_line(fields)
        elif generation.text is not None:
            self.finished[index] = generation.text
        else:
            self.finished[index] = json.dumps(generation.output_ids)
        while self.next in self.finished:
            self.write(self.finished.pop(self.next)[len(self.shown) :] + "\n")
            self.shown = ""
            self.next += 1

    def write_rest(self) -> None:
        """Write what is finished though something before it is not: the work is being stopped."""
        if self.shown:
            self.write("\n")
        for index in sorted(self.finished):
            self.write(self.finished[index] + "\n")

    def write(self, text: str) -> None:
        # A terminal obeys control characters, and these come from a model.
        sys.stdout.write(ui.printable(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()


class LedgerWriter:
    """Writes generations to an output file, in the order of their prompts, and streams nothing.

    What is finished while something before it is not is lost to a stop: a file is a beginning.
    """

    stream = False

    def __init__(self, ledger: Ledger, samples: int) -> None:
        self.ledger, self.samples = ledger, samples
        self.asked: deque[tuple[int | None, list[Any]]] = deque()
        self.finished: dict[int, Generation] = {}
        self.next = 0

    def admit(self, task: TextTask, sample: int) -> bool:
        """Tell whether a text must be generated. Raises UsageError if the file has another."""
        asked = named_task(task, sample)
        if self.ledger.knows_more:
            self.ledger.recall(asked)
            return False
        self.asked.append((sample if self.samples > 1 else None, asked))
        return True

    def show_settled(self, index: int) -> None:
        """Show nothing of a text before it is finished."""

    def complete(self, index: int, generation: Generation) -> None:
        """Take a generation, and write all whose turn has come."""
        self.finished[index] = generation
        while self.next in self.finished:
            sample, asked = self.asked.popleft()
            self.ledger.write(answer_fields(self.finished.pop(self.next), sample), asked)
            self.next += 1

    def write_rest(self) -> None:
        """Write nothing out of its turn."""


Writer = TextWriter | LedgerWriter


def named_task(task: TextTask, sample: int) -> list[Any]:
    """Name what is asked, for its key: ids, gaps and the text around, and what comes back of it."""
    gaps = [list(vars(gap).values()) for gap in task.task.gaps]
    request = task.request
    return [task.task.runs, gaps, task.around, sample, request.kind, request.line, request.id]


def answer_fields(generation: Generation, sample: int | None) -> dict[str, Any]:
    """Return the JSON object of a generation, with what it is an answer to."""
    request = generation.request
    asked = {"line": request.line, "id": request.id, "sample": sample}
    return {**{k: v for k, v in asked.items() if v is not None}, **generation.fields()}
