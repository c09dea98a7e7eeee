"""The items of a benchmark as people have them: records of a file to fields of templates. No torch.

A record that scores choices is read by `evaluation/shapes`. Of others the question, the answer and
the way to it are found under the names that the public sets give them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from illada_core.benchmark.definition import Benchmark
from illada_core.benchmark.extraction import after_hashes, last_boxed
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import list_sources
from illada_core.decoding import decode_record
from illada_core.errors import DataError, UsageError
from illada_core.evaluation.shapes import ChoiceRequest, read_choice_request

QUESTIONS = ("question", "problem", "context", "query", "goal", "text", "prompt", "input")
SOLUTIONS = ("chain_of_thought", "solution", "rationale")
PREFIX = "Question:"
NO_ANSWER_HINT = "an item without an answer cannot be graded: give a file that has them"


@dataclass(frozen=True)
class Record:
    """An item: the object of its line, the fields that templates may name, its answer as text.

    `request` is there where it has choices; its prompt is the question alone.
    """

    place: int
    doc: dict[str, Any]
    fields: dict[str, str]
    answer: str
    request: ChoiceRequest | None = None


def read_records(path: str, benchmark: Benchmark, limit: int | None = None) -> list[Record]:
    """Return the items of a file: JSON Lines, JSON, Parquet or Arrow, or a hub data set (hf:NAME).

    Raises DataError or UsageError that names the file and the line.
    """
    records: list[Record] = []
    for line, doc in read_lines(path):
        if limit is not None and len(records) >= limit:
            break
        try:
            records.append(read_record(len(records), doc, benchmark))
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error.sentence}", error.hint) from None
    if not records:
        raise DataError(f"{path} holds no items")
    return records


def read_lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file with their line numbers, from 1."""
    sources = list_sources([path], "chat")
    for chunk in corpus_chunks(sources, None):
        found = chunk.read()
        if found.faults:
            raise DataError(found.faults[0].text(sources))
        for text, record in zip(found.texts, found.records, strict=True):
            try:
                doc = decode_record(text)
            except ValueError as error:
                raise UsageError(f"{path}, line {record + 1}: not valid JSON ({error})") from None
            if not isinstance(doc, dict):
                raise UsageError(f"{path}, line {record + 1}: not a JSON object")
            yield record + 1, doc


def read_record(place: int, doc: dict[str, Any], benchmark: Benchmark) -> Record:
    """Return an object as an item of a benchmark. Raises DataError for what it lacks."""
    texts = {name: value for name, value in doc.items() if isinstance(value, str)}
    if benchmark.kind == "code":
        return Record(place, doc, {**texts, **program_fields(doc)}, "")
    if benchmark.kind == "choices" or benchmark.options == "letters":
        return choice_record(place, doc, texts, benchmark)
    question = cleaned(first_text(doc, QUESTIONS, "question"), benchmark)
    chain, answer = chain_and_answer(doc)
    fields = {**texts, "question": question, "chain": chain, "answer": answer}
    return Record(place, doc, fields, answer)


def choice_record(
    place: int, doc: dict[str, Any], texts: Mapping[str, str], benchmark: Benchmark
) -> Record:
    """Return an item that has choices. Raises DataError."""
    request = read_choice_request(None, whole_context(doc))
    if request.answer is None:
        raise DataError("it has no answer", NO_ANSWER_HINT)
    if not isinstance(request.prompt, str):
        raise DataError("it has a conversation or ids as its question, not a text")
    if len(request.choices) > len(ascii_uppercase):
        raise DataError(f"it has {len(request.choices)} choices, and letters end at 26")
    question = cleaned(request.prompt, benchmark)
    choices = [cleaned_text(choice, benchmark.clean) for choice in request.choices]
    letters = ascii_uppercase[: len(choices)]
    pairs = zip(letters, choices, strict=True)
    lettered = benchmark.options == "letters"
    fields = {
        **{name: value for name, value in texts.items() if name != "subject"},
        "subject": subject_words(doc),
        "question": question,
        "lettered": "\n".join(f"{letter}. {choice}" for letter, choice in pairs),
        "letters": ", ".join(letters),
    }
    asked = list(letters) if lettered else choices
    answer = asked[request.answer]
    found = ChoiceRequest(question, asked, request.answer, contexts=request.contexts)
    return Record(place, doc, {**fields, "answer": answer}, answer, found)


def whole_context(doc: dict[str, Any]) -> dict[str, Any]:
    """Return HellaSwag's object with one prompt: its activity, and both parts of its context."""
    if not isinstance(doc.get("ctx_a"), str) or not isinstance(doc.get("endings"), list):
        return doc
    context = doc["ctx_a"] + " " + str(doc.get("ctx_b", "")).capitalize()
    activity = doc.get("activity_label")
    prompt = f"{activity}: {context}" if activity else context
    return {"prompt": prompt, "choices": doc["endings"], "label": doc.get("label")}


def subject_words(doc: Mapping[str, Any]) -> str:
    """Return the subject of an item as words."""
    named = next((doc[name] for name in ("subject", "category") if name in doc), "")
    return str(named).replace("_", " ")


def cleaned(question: str, benchmark: Benchmark) -> str:
    """Return a question as a task wants it: without the word before it that some files have."""
    if question.startswith(PREFIX):
        question = question.removeprefix(PREFIX).strip()
        question = question.removesuffix("Answer:").rstrip()
    return cleaned_text(question, benchmark.clean)


def cleaned_text(text: str, clean: str) -> str:
    """Return a text stripped, or without the brackets that WikiHow's pages left in HellaSwag."""
    if clean == "as-is":
        return text
    if clean == "strip":
        return text.strip()
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def first_text(doc: Mapping[str, Any], names: Sequence[str], what: str) -> str:
    """Return the first field that is a text. Raises DataError where none is."""
    found = next((doc[name] for name in names if isinstance(doc.get(name), str)), None)
    if found is None:
        raise DataError(f"it has no {what}", f"looked for: {', '.join(names)}")
    return str(found)


def chain_and_answer(doc: Mapping[str, Any]) -> tuple[str, str]:
    """Return the way to an answer, and the answer: of GSM8K's, MATH's and like objects."""
    chain = next((doc[name] for name in SOLUTIONS if isinstance(doc.get(name), str)), "")
    answer = doc.get("answer", doc.get("target"))
    if isinstance(answer, str | int | float) and not isinstance(answer, bool):
        text = str(answer)
        if "####" in text:
            return text.partition("####")[0].strip(), after_hashes(text) or ""
        return chain, text.strip()
    boxed = last_boxed(chain)
    if boxed is None:
        raise DataError("it has no answer", NO_ANSWER_HINT)
    return chain, boxed


def program_fields(doc: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of HumanEval's or MBPP's objects. Raises DataError."""
    if isinstance(doc.get("test_list"), list):
        tests = "\n".join(map(str, doc["test_list"]))
        imports = doc.get("test_imports") or []
        setup = "\n".join([*map(str, imports), str(doc.get("test_setup_code") or "")]).strip()
        question = first_text(doc, ("text", "prompt"), "task")
        return {"question": question, "tests": tests, "program_test": f"{setup}\n{tests}".strip()}
    for name in ("prompt", "entry_point", "test"):
        if not isinstance(doc.get(name), str):
            raise DataError(f"it has no {name}", "HumanEval's and MBPP's objects are understood")
    return {"program_test": f"{doc['test']}\ncheck({doc['entry_point']})"}
