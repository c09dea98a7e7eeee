"""What answers are worth: each item's value by each metric, named as the harness names them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from illada_core.benchmark.definition import Benchmark
from illada_core.benchmark.equality import are_equal
from illada_core.benchmark.extraction import EXTRACTIONS
from illada_core.benchmark.programs import program_of
from illada_core.benchmark.records import Record
from illada_core.benchmark.statistics import pass_at
from illada_core.errors import UsageError
from illada_core.evaluation.measures import Normalize, text_sizes
from illada_core.evaluation.scoring import pick

NO_FILTER = "none"
NOTHING = "[invalid]"  # in place of what a text does not say, as the harness writes it
AT_ONCE = 64
MEASURES: dict[str, Normalize] = {"acc": "sum", "acc_norm": "character"}
RunPrograms = Callable[[Sequence[str]], Iterable[bool]]


@dataclass(frozen=True)
class Grade:
    """An item graded: values by filter, then metric, and what each filter read out.

    `responses` are its texts, or the sums of its choices.
    """

    record: Record
    responses: list[Any]
    values: dict[str, dict[str, float]]
    read: dict[str, list[str]] = field(default_factory=dict)


def grade_all(
    benchmark: Benchmark,
    answered: Iterable[tuple[Record, list[dict[str, Any]]]],
    run_programs: RunPrograms | None,
) -> Iterator[Grade]:
    """Grade items with their answers, in order. Raises UsageError where no code may be run."""
    if benchmark.kind == "choices":
        yield from (grade_choices(record, fields[0]) for record, fields in answered)
    elif benchmark.kind == "text":
        yield from (grade_texts(benchmark, record, fields) for record, fields in answered)
    else:
        yield from grade_programs(benchmark, answered, run_programs)


def grade_choices(record: Record, fields: Mapping[str, Any]) -> Grade:
    """Grade the sums of an item's choices: `acc` by sums, `acc_norm` by sums over characters."""
    request = record.request
    assert request is not None
    sums, sizes = fields["sums"], text_sizes(request.choices, fields["tokens"])
    values = {
        name: float(pick(sums, sizes.divisors(normalize) or ()) == request.answer)
        for name, normalize in MEASURES.items()
    }
    return Grade(record, sums, {NO_FILTER: values})


def grade_texts(
    benchmark: Benchmark, record: Record, answers: Sequence[Mapping[str, Any]]
) -> Grade:
    """Grade the texts of an item: the share of them that each filter reads the answer out of."""
    texts = [each["text"] for each in answers]
    read, values = {}, {}
    for name, extraction in (benchmark.filters or {}).items():
        found = [EXTRACTIONS[extraction](text) for text in texts]
        right = [
            each is not None and are_equal(each, record.answer, benchmark.equal) for each in found
        ]
        read[name] = [NOTHING if each is None else each for each in found]
        values[name] = {"exact_match": sum(right) / len(right)}
    return Grade(record, texts, values, read)


def grade_programs(
    benchmark: Benchmark,
    answered: Iterable[tuple[Record, list[dict[str, Any]]]],
    run_programs: RunPrograms | None,
) -> Iterator[Grade]:
    """Grade the programs of items by running them, some items at a time."""
    if run_programs is None:
        raise UsageError(
            f"{benchmark.name} runs programs that a model wrote",
            "--run-code allows it: in children with limits, best on a machine that can be spared",
        )
    ((name, extraction),) = (benchmark.filters or {}).items()
    arriving = iter(answered)
    while group := list(islice(arriving, AT_ONCE)):
        programs = [
            [program_of(each["text"], extraction, record.fields) for each in answers]
            for record, answers in group
        ]
        flat = [program for each in programs for program in each if program is not None]
        outcomes = iter(list(run_programs(flat)))
        for (record, answers), made in zip(group, programs, strict=True):
            passed = sum(next(outcomes) for program in made if program is not None)
            at = sorted({1, len(made)})
            values = {f"pass@{k}": pass_at(k, passed, len(made)) for k in at}
            read = {name: [NOTHING if program is None else program for program in made]}
            yield Grade(record, [each["text"] for each in answers], {name: values}, read)
