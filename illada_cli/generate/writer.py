"""Texts on standard output: in the order of their prompts, as text, JSON objects or a stream."""

from __future__ import annotations

import json
import sys
from typing import Any

from illada_cli import ui
from illada_core.inference.text_sampler import Generation, TextSampler


class TextWriter:
    """Writes generations in the order of their prompts, each as soon as it can be."""

    def __init__(self, sampler: TextSampler, as_json: bool, stream: bool, samples: int) -> None:
        self.sampler = sampler
        self.as_json, self.stream, self.samples = as_json, stream, samples
        self.finished: dict[int, str] = {}
        self.next = 0
        self.shown = ""

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
            self.finished[index] = json_line(answer_fields(generation, sample))
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


def answer_fields(generation: Generation, sample: int | None) -> dict[str, Any]:
    """Return the JSON object of a generation, with what it is an answer to."""
    request = generation.request
    asked = {"line": request.line, "id": request.id, "sample": sample}
    return {**{k: v for k, v in asked.items() if v is not None}, **generation.fields()}


def json_line(fields: dict[str, Any]) -> str:
    """Write an object in a line; in ASCII for a terminal, and where UTF-8 cannot (a foreign id)."""
    line = json.dumps(fields, ensure_ascii=False)
    is_ascii = sys.stdout.isatty() or any("\ud800" <= letter <= "\udfff" for letter in line)
    return json.dumps(fields) if is_ascii else line
