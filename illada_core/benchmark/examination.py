"""Exams given to a model: everything asked, then graded, then written as results.

Asking can be stopped anywhere and gone on with; grading needs the answers alone.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from illada_core.benchmark.answering import Engine, IsStopped, answer
from illada_core.benchmark.answers import Answers, require_answer
from illada_core.benchmark.exam import Ask, Exam, record_asks
from illada_core.benchmark.grading import RunPrograms, grade_all
from illada_core.benchmark.prompts import prompt_text
from illada_core.benchmark.records import Record
from illada_core.benchmark.results import Collected, SampleWriter, sample_lines
from illada_core.benchmark.results import write_results as write_files
from illada_core.errors import DataError
from illada_core.evaluation.items import complete_scoring
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.files import key_of
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.text_sampler import complete_settings, without_masks


@dataclass(frozen=True)
class Share:
    """Which items are this process's: every `world`-th, from `rank` on."""

    rank: int = 0
    world: int = 1


ALL = Share()
Keys = dict[str, list[list[str]]]  # of each exam, of each of its items


def for_checkpoint(exam: Exam, checkpoint: Checkpoint) -> Exam:
    """Return an exam with what its settings leave to a checkpoint. Raises UsageError."""
    if exam.is_scored:
        return replace(exam, scoring=complete_scoring(exam.scoring, checkpoint))
    stops = dict.fromkeys((*exam.settings.stop, *exam.benchmark.stop))
    settings = replace(exam.settings, stop=tuple(stops))
    if checkpoint.config.is_causal:  # presets are made for models that fill masks
        settings = without_masks(settings)
    settings, _ = complete_settings(settings, checkpoint)
    return replace(exam, settings=settings)


def check_first(exams: Sequence[Exam], checkpoint: Checkpoint) -> None:
    """Build the first prompt of each exam, so that what is wrong with it is told before any work.

    Raises DataError or UsageError.
    """
    for exam in exams:
        try:
            list(record_asks(exam, exam.records[0], checkpoint, ""))
        except DataError as error:
            raise DataError(f"{exam.name}, item 0: {error.sentence}", error.hint) from None


def keys_of(exams: Sequence[Exam], engine: Engine) -> Keys:
    """Return the keys of all that is asked.

    Raises DataError that counts the items which cannot be asked: mostly prompts that are too long.
    """
    keys: Keys = {}
    for exam in exams:
        found, faults = [], []
        for record in exam.records:
            try:
                asks = record_asks(exam, record, engine.checkpoint, engine.weights)
                found.append([ask.key for ask in asks])
            except DataError as error:
                faults.append((record.place, error))
        if faults:
            place, first = faults[0]
            of = f"{len(faults):,} of {len(exam.records):,} items cannot be asked"
            raise DataError(f"{exam.name}: {of}; item {place}: {first.sentence}", first.hint)
        keys[exam.name] = found
    return keys


def missing(keys: Keys, answers: Answers) -> set[str]:
    """Return the keys that have no answer yet."""
    asked = {key for items in keys.values() for item in items for key in item}
    return {key for key in asked if key not in answers}


def ask_all(
    exams: Sequence[Exam],
    keys: Keys,
    engine: Engine,
    answers: Answers,
    is_stopped: IsStopped,
    share: Share = ALL,
) -> Iterator[int]:
    """Ask all that has no answer yet; yield how many answers each step brought.

    Items of all exams share batches: choices of one guidance together, then all texts.
    """
    open_keys = missing(keys, answers)

    def kind(exam: Exam) -> tuple[bool, float]:
        return not exam.is_scored, exam.scoring.cfg if exam.is_scored else 0.0

    def shared(group: Sequence[Exam]) -> Iterator[Ask]:
        items = (
            (exam, record, own)
            for exam in group
            for record, own in zip(exam.records, keys[exam.name], strict=True)
        )
        for place, (exam, record, own) in enumerate(items):
            # By place among all: what is open by now, another rank may see otherwise.
            if place % share.world == share.rank and not open_keys.isdisjoint(own):
                yield from record_asks(exam, record, engine.checkpoint, engine.weights)

    for _, found in groupby(sorted(exams, key=kind), kind):
        yield from answer(shared(list(found)), engine, answers, is_stopped)


@dataclass
class Cost:
    """What the answers of an exam took, and how its texts ended."""

    forwards: int = 0
    new_tokens: int = 0
    texts: int = 0
    cut_by_length: int = 0
    prompts_cut: int = 0
    seconds: float = 0.0

    def add(self, fields: dict[str, Any]) -> None:
        """Count an answer."""
        self.forwards += fields["forwards"]
        self.seconds += fields["seconds"]
        self.prompts_cut += fields["cut"] > 0
        if "text" in fields:
            self.texts += 1
            self.new_tokens += fields["new_tokens"]
            self.cut_by_length += fields["finish_reason"] == "length"


def answered(
    exam: Exam, keys: Sequence[Sequence[str]], answers: Answers, cost: Cost
) -> Iterator[tuple[Record, list[dict[str, Any]]]]:
    """Yield the items of an exam with their answers. Raises DataError for one that has none."""
    for record, own in zip(exam.records, keys, strict=True):
        what = f"{exam.name}, item {record.place}"
        found = [require_answer(answers, key, what) for key in own]
        for fields in found:
            cost.add(fields)
        yield record, found


def grade_exam(
    exam: Exam,
    keys: Sequence[Sequence[str]],
    answers: Answers,
    folder: Path,
    key: str,
    run_programs: RunPrograms | None,
) -> dict[str, Any]:
    """Grade an exam, write its samples, and return what `results.write_results` takes of it."""
    collected, cost = Collected(), Cost()
    with SampleWriter(folder, exam.name, key) as writer:
        arriving = answered(exam, keys, answers, cost)
        for grade in grade_all(exam.benchmark, arriving, run_programs):
            prompt, arguments = told(exam, grade.record)
            lines = sample_lines(grade, prompt, arguments)
            writer.write(lines)
            collected.add(lines)
    intervals = {name: mean.interval for name, mean in collected.means().items()}
    return {
        "collected": collected,
        "shots": exam.shots,
        "version": exam.benchmark.version,
        "items": len(exam.records),
        "config": config_of(exam),
        "ours": {
            "title": exam.benchmark.title,
            "metric": exam.metric,
            "published": exam.published,
            "remarks": [each for each in (exam.benchmark.remark, exam.remark) if each],
            "intervals": intervals,
            "unread": collected.unread,
            **vars(cost),
            "kind": exam.benchmark.kind,
            "source": exam.source,
            "preset": exam.preset,
        },
    }


def told(exam: Exam, record: Record) -> tuple[str, list[list[Any]]]:
    """Return the prompt of an item as text, and what is asked about it as the harness lists it."""
    request = exam.request(record)
    prompt = prompt_text(request)
    if not isinstance(request, ChoiceRequest):
        settings = exam.settings
        budget = {"until": list(settings.stop), "max_gen_toks": settings.max_new_tokens}
        return prompt, [[prompt, budget]]
    before = request.contexts or [prompt] * len(request.choices)
    delimiter = exam.scoring.delimiter
    arguments = [
        [context, delimiter + choice]
        for context, choice in zip(before, request.choices, strict=True)
    ]
    return before[0], arguments


def config_of(exam: Exam) -> dict[str, Any]:
    """Return all that decided the answers of an exam, to be read by people."""
    how = exam.scoring if exam.is_scored else exam.settings
    named = {
        "task": exam.benchmark.given,
        "num_fewshot": exam.shots,
        "repeats": exam.samples,
        **exam.named,
    }
    return {**named, ("scoring" if exam.is_scored else "generation_kwargs"): vars(how)}


def write_results(
    exams: Sequence[Exam],
    keys: Keys,
    weights: str,
    answers: Answers,
    folder: Path,
    facts: dict[str, Any],
    run_programs: RunPrograms | None,
) -> Path:
    """Grade exams that `weights` have answered whole; return the results file."""
    key = key_of([weights, [[config_of(exam), keys[exam.name]] for exam in exams]])
    tasks = {
        exam.name: grade_exam(exam, keys[exam.name], answers, folder, key, run_programs)
        for exam in exams
    }
    seconds = round(sum(task["ours"]["seconds"] for task in tasks.values()), 3)
    return write_files(folder, key, tasks, {"date": time.time(), "seconds": seconds, **facts})
