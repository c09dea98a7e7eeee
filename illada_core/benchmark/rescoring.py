"""Saved answers graded again: after an extraction or a test changed, without asking any model."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from illada_core.benchmark.definition import Benchmark, load_benchmark
from illada_core.benchmark.grading import RunPrograms, grade_all
from illada_core.benchmark.records import Record, read_record
from illada_core.benchmark.results import (
    Collected,
    Result,
    SampleWriter,
    key_in,
    sample_lines,
    write_results,
)
from illada_core.errors import UsageError


def rescore(result: Result, run_programs: RunPrograms | None) -> Result:
    """Grade the samples of a result again, and write it anew under its name.

    Raises UsageError for what illada did not write, and for programs that nobody allowed.
    """
    content = result.content
    ours = content.get("config", {}).get("illada")
    if ours is None:
        raise UsageError(f"{result.path} was not written by illada eval")
    tasks = {}
    for name in result.tasks:
        benchmark = load_benchmark(content["configs"][name]["task"])
        collected = rescore_task(result, name, benchmark, run_programs)
        means = collected.means()
        facts = {
            **result.ours(name),
            "unread": collected.unread,
            "intervals": {metric: mean.interval for metric, mean in means.items()},
        }
        tasks[name] = {
            "collected": collected,
            "shots": content["n-shot"][name],
            "version": benchmark.version,
            "items": content["n-samples"][name]["original"],
            "config": {**content["configs"][name], "graded_by": benchmark.version},
            "ours": facts,
        }
    shared = {name: value for name, value in ours.items() if name not in ("tasks", "version")}
    facts = {
        "model_args": content["config"]["model_args"],
        "model_name": content["model_name"],
        "limit": content["config"]["limit"],
        "date": content["date"],
        "seconds": content["total_evaluation_time_seconds"],
        "ours": shared,
    }
    path = write_results(result.path.parent, key_in(result.path), tasks, facts)
    return Result.read(path)


def rescore_task(
    result: Result, name: str, benchmark: Benchmark, run_programs: RunPrograms | None
) -> Collected:
    """Grade the samples of a task again, write them, and return their values."""
    collected = Collected()
    told: dict[int, dict[str, Any]] = {}
    with SampleWriter(result.path.parent, name, key_in(result.path)) as writer:
        arriving = saved_answers(result, name, benchmark, told)
        for grade in grade_all(benchmark, arriving, run_programs):
            saved = told.pop(grade.record.place)
            kept = {each: saved[each] for each in ("arguments", "prompt_hash")}
            lines = [{**line, **kept} for line in sample_lines(grade, "", [])]
            writer.write(lines)
            collected.add(lines)
    return collected


def saved_answers(
    result: Result, name: str, benchmark: Benchmark, told: dict[int, dict[str, Any]]
) -> Iterator[tuple[Record, list[dict[str, Any]]]]:
    """Yield the items of a result with their answers; `told` gets the line of each."""
    for place, lines in groupby(result.samples(name), lambda line: line["doc_id"]):
        line = next(iter(lines))
        told[place] = line
        responses = line["resps"]
        if benchmark.kind == "choices":
            sums = [each[0][0] for each in responses]
            answers = [{"sums": sums, "tokens": [1] * len(sums)}]
        else:
            answers = [{"text": text} for text in responses[0]]
        yield read_record(place, line["doc"], benchmark), answers
