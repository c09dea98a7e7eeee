"""What generation gives a person: text cut where it should stop, JSON objects, a live stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from illada_cli import ui
from illada_cli.generate.requests import Prepared

if TYPE_CHECKING:
    from illada_core.inference.sampler import Completion
    from illada_core.text.tokenizer import Tokenizer

UNFINISHED = "\ufffd"  # what the bytes of a character decode to until its last token is there


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of the stop strings begins in a text, or None."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def stop_finder(
    tokenizer: Tokenizer, stops: Sequence[str]
) -> Callable[[list[int]], int | None] | None:
    """Return the function that counts the ids which stand wholly before a stop string."""
    if not stops:
        return None

    def find_stop(ids: list[int]) -> int | None:
        place = first_stop(tokenizer.decode(ids, keep_special=True), stops)
        if place is None:
            return None
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(tokenizer.decode(ids[:middle], keep_special=True)) <= place
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    return find_stop


def completed_text(
    completion: Completion, prepared: Prepared, tokenizer: Tokenizer, stops: Sequence[str]
) -> str:
    """Return the text of a completion, with what stands around its gaps if it fills several."""
    texts = []
    for fill, cut in zip(completion.fills, completion.cuts, strict=True):
        text = tokenizer.decode([*fill, *cut])
        place = first_stop(text, stops) if cut else None
        texts.append(tokenizer.decode(fill) if place is None else text[:place])
    if not prepared.around:
        return "".join(texts)
    first, *rest = prepared.around
    return first + "".join(text + run for text, run in zip(texts, rest, strict=True))


def answer_object(
    completion: Completion, prepared: Prepared, text: str | None, sample: int | None
) -> dict[str, Any]:
    """Return the JSON object of one completion."""
    request = prepared.request
    fields: dict[str, Any] = {}
    if request.line is not None:
        fields["line"] = request.line
    if request.id is not None:
        fields["id"] = request.id
    if sample is not None:
        fields["sample"] = sample
    fields |= {
        "text": text,
        "output_ids": completion.output_ids,
        "finish_reason": completion.finish_reason,
        "new_tokens": len(completion.output_ids),
        "forwards": completion.forwards,
    }
    if prepared.request.kind in ("infill", "infill_ids"):
        fields["fills"] = completion.fills
    return fields


def json_line(fields: dict[str, Any]) -> str:
    """Write an object in a line; in ASCII for a terminal, and where UTF-8 cannot (a foreign id)."""
    line = json.dumps(fields, ensure_ascii=False)
    is_ascii = sys.stdout.isatty() or any("\ud800" <= letter <= "\udfff" for letter in line)
    return json.dumps(fields) if is_ascii else line


class Answers:
    """Completions on standard output in the order of their prompts, each as soon as it can be."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        stops: Sequence[str],
        as_json: bool,
        stream: bool,
        samples: int,
    ) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.as_json, self.stream, self.samples = as_json, stream, samples
        self.prepared: dict[int, Prepared] = {}
        self.finished: dict[int, str] = {}
        self.next = 0
        self.shown = ""

    def expect(self, index: int, prepared: Prepared) -> None:
        """Note which request the sampler's index stands for."""
        self.prepared[index] = prepared

    def show_block(self, index: int, ids: Sequence[int]) -> None:
        """Stream what a completed block settles of the prompt whose turn it is."""
        if not self.stream or index != self.next or self.tokenizer is None:
            return
        if self.prepared[index].around:
            return
        text = self.tokenizer.decode(ids).rstrip(UNFINISHED)
        place = first_stop(text, self.stops)
        settled = text[: len(text) - begun(text, self.stops) if place is None else place]
        self.write(settled[len(self.shown) :])
        self.shown = settled

    def complete(self, completion: Completion) -> None:
        """Take a completion, and write all whose turn has come."""
        index = completion.index
        prepared = self.prepared.pop(index)
        text = None
        if self.tokenizer is not None:
            text = completed_text(completion, prepared, self.tokenizer, self.stops)
        if self.as_json:
            sample = index % self.samples if self.samples > 1 else None
            fields = answer_object(completion, prepared, text, sample)
            self.finished[index] = json_line(fields)
        else:
            self.finished[index] = text if text is not None else json.dumps(completion.output_ids)
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


def begun(text: str, stops: Sequence[str]) -> int:
    """Return how many last characters of a text may be the beginning of a stop string."""
    beginnings = (stop[:length] for stop in stops for length in range(1, len(stop)))
    return max((len(part) for part in beginnings if text.endswith(part)), default=0)
