"""An item and its shots as what a model is asked: a text, or a conversation. No torch."""

from collections.abc import Sequence
from dataclasses import replace

from illada_core.benchmark.definition import Benchmark
from illada_core.benchmark.records import Record
from illada_core.benchmark.templates import fill
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.inference.requests import Request
from illada_core.text.messages import ASSISTANT, SYSTEM, USER, Dialogue, Message


def choice_request(record: Record, shots: Sequence[Record], benchmark: Benchmark) -> ChoiceRequest:
    """Return the item with its prompt laid out; its choices stay what they are."""
    assert record.request is not None
    if benchmark.chat:
        return replace(record.request, prompt=dialogue_of(record, shots, benchmark))
    if record.request.contexts:
        before = before_item(record, shots, benchmark)
        contexts = tuple(before + context for context in record.request.contexts)
        return replace(record.request, contexts=contexts)
    return replace(record.request, prompt=plain_prompt(record, shots, benchmark))


def text_request(record: Record, shots: Sequence[Record], benchmark: Benchmark) -> Request:
    """Return what is to be continued, or answered."""
    if benchmark.chat:
        return Request("messages", dialogue_of(record, shots, benchmark))
    return Request("prompt", plain_prompt(record, shots, benchmark))


def plain_prompt(record: Record, shots: Sequence[Record], benchmark: Benchmark) -> str:
    """Return shots and question as one text."""
    return before_item(record, shots, benchmark) + fill(benchmark.prompt, record.fields)


def before_item(record: Record, shots: Sequence[Record], benchmark: Benchmark) -> str:
    """Return all that stands before the question of an item."""
    shown = "".join(shot_text(shot, benchmark) + benchmark.separator for shot in shots)
    return fill(benchmark.description, record.fields) + shown


def shot_text(shot: Record, benchmark: Benchmark) -> str:
    """Return an item with its answer."""
    request = shot.request
    if request is not None and request.contexts and request.answer is not None:
        asked = request.contexts[request.answer]
        return asked + benchmark.delimiter + str(request.choices[request.answer])
    return fill(benchmark.prompt, shot.fields) + benchmark.delimiter + answer_text(shot, benchmark)


def answer_text(record: Record, benchmark: Benchmark) -> str:
    """Return the answer of an item as a shot shows it."""
    return fill(benchmark.target or "{answer}", record.fields)


def dialogue_of(record: Record, shots: Sequence[Record], benchmark: Benchmark) -> Dialogue:
    """Return shots as turns that were taken, and the question as the one to be answered."""
    said = fill(benchmark.description, record.fields).strip()
    messages = [Message(SYSTEM, said)] if said else []
    for shot in shots:
        messages.append(Message(USER, fill(benchmark.prompt, shot.fields)))
        messages.append(Message(ASSISTANT, answer_text(shot, benchmark)))
    messages.append(Message(USER, fill(benchmark.prompt, record.fields)))
    return Dialogue(tuple(messages))


def prompt_text(request: ChoiceRequest | Request) -> str:
    """Return what a model is asked as a person reads it: a conversation as JSON."""
    prompt = request.prompt if isinstance(request, ChoiceRequest) else request.value
    if isinstance(prompt, Dialogue):
        from illada_core.files import json_line

        return json_line(prompt.fields["messages"])
    if isinstance(request, ChoiceRequest) and request.contexts:
        return "\n".join(request.contexts)
    return str(prompt)
