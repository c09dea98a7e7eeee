"""Results on disk, in lm-evaluation-harness's own schema, so that its readers read ours.

`samples_TASK_KEY.jsonl` has a line for each item and filter, `results_KEY.json` the means; the key
names weights, settings and items. What is ours alone stands under `config.illada`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from illada_core import __version__
from illada_core.benchmark.grading import NOTHING, Grade
from illada_core.benchmark.statistics import Mean, mean_of
from illada_core.decoding import decode_json
from illada_core.errors import DataError
from illada_core.files import json_line, partial_path, publish, read_json, write_json


@dataclass
class Collected:
    """The values of a task's metrics item by item, and the names of its prompts."""

    values: dict[str, list[float]] = field(default_factory=dict)
    hashes: Any = field(default_factory=hashlib.sha256)
    unread: dict[str, int] = field(default_factory=dict)
    items: int = 0

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take the sample lines of one item."""
        self.items += 1
        for line in lines:
            for metric in line["metrics"]:
                name = f"{metric},{line['filter']}"
                self.values.setdefault(name, []).append(line[metric])
            unread = line["filtered_resps"].count(NOTHING)
            self.unread[line["filter"]] = self.unread.get(line["filter"], 0) + bool(unread)
            self.hashes.update(
                (line["doc_hash"] + line["prompt_hash"] + line["target_hash"]).encode()
            )

    def means(self) -> dict[str, Mean]:
        """Return the mean of each metric."""
        return {name: mean_of(values) for name, values in self.values.items()}


def hashed(text: str) -> str:
    """Return the sha256 of a text, by which the harness names documents, prompts and targets."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sample_lines(grade: Grade, prompt: str, arguments: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the lines of a graded item: one for each filter."""
    record = grade.record
    request = record.request
    scored = request is not None and not grade.read
    target = request.answer if scored and request is not None else record.answer
    document = json.dumps(record.doc, indent=2, ensure_ascii=False)
    named = {
        f"gen_args_{place}": {f"arg_{at}": part for at, part in enumerate(parts)}
        for place, parts in enumerate(arguments)
    }
    responses = [[[total, False]] for total in grade.responses] if scored else [grade.responses]
    return [
        {
            "doc_id": record.place,
            "doc": record.doc,
            "target": str(target),
            "arguments": named,
            "resps": responses,
            "filtered_resps": grade.read.get(name, [each[0] for each in responses]),
            "filter": name,
            "metrics": list(values),
            "doc_hash": hashed(document),
            "prompt_hash": hashed(prompt),
            "target_hash": hashed(str(target)),
            **values,
        }
        for name, values in grade.values.items()
    ]


class SampleWriter:
    """A file of samples that gets its name when all are there."""

    def __init__(self, folder: Path, task: str, key: str) -> None:
        self.path = folder / f"samples_{task}_{key}.jsonl"
        self.file = open(partial_path(self.path), "w", encoding="utf-8")  # noqa: SIM115

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        self.file.writelines(json_line(line) + "\n" for line in lines)

    def __enter__(self) -> "SampleWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            publish(self.file, self.path)
        else:
            self.file.close()
            partial_path(self.path).unlink(missing_ok=True)


def write_results(
    folder: Path, key: str, tasks: dict[str, dict[str, Any]], facts: dict[str, Any]
) -> Path:
    """Write the results of a run; return the file.

    A task holds `collected`, `shots`, `version`, `config` and `items`, and what else is said of it
    under `ours`.
    """
    results: dict[str, dict[str, Any]] = {}
    for name, task in tasks.items():
        table: dict[str, Any] = {"alias": name, "sample_len": task["collected"].items}
        for metric, mean in task["collected"].means().items():
            kind, _, found_by = metric.partition(",")
            table[metric] = mean.value
            table[f"{kind}_stderr,{found_by}"] = "N/A" if mean.error is None else mean.error
        results[name] = table
    path = folder / f"results_{key}.json"
    ours = {name: task["ours"] for name, task in tasks.items()}
    higher = {
        name: {metric.partition(",")[0]: True for metric in task["collected"].values}
        for name, task in tasks.items()
    }
    content = {
        "results": results,
        "group_subtasks": {name: [] for name in tasks},
        "configs": {name: task["config"] for name, task in tasks.items()},
        "versions": {name: task["version"] for name, task in tasks.items()},
        "n-shot": {name: task["shots"] for name, task in tasks.items()},
        "higher_is_better": higher,
        "n-samples": {
            name: {"original": task["items"], "effective": task["collected"].items}
            for name, task in tasks.items()
        },
        "config": {
            "model": "illada",
            "model_args": facts["model_args"],
            "limit": facts["limit"],
            "illada": {**facts["ours"], "version": __version__, "tasks": ours},
        },
        "task_hashes": {name: task["collected"].hashes.hexdigest() for name, task in tasks.items()},
        "model_source": "illada",
        "model_name": facts["model_name"],
        "date": facts["date"],
        "total_evaluation_time_seconds": str(facts["seconds"]),
    }
    write_json(path, content)
    return path


def key_in(path: Path) -> str:
    """Return the key that the name of a results file holds: a date where the harness wrote it."""
    return path.stem.removeprefix("results_")


@dataclass(frozen=True)
class Result:
    """A results file that was read, and where its samples are."""

    path: Path
    content: dict[str, Any]

    @staticmethod
    def read(path: Path) -> "Result":
        """Read a results file. Raises DataError for one that is none."""
        content = read_json(path)
        if not isinstance(content.get("results"), dict):
            raise DataError(f"{path} holds no results", "illada eval -o FOLDER writes them")
        return Result(path, content)

    @property
    def tasks(self) -> list[str]:
        return list(self.content["results"])

    def ours(self, task: str) -> dict[str, Any]:
        """Return what illada says of a task; nothing where the harness wrote the file."""
        found: dict[str, Any] = self.content.get("config", {}).get("illada", {})
        ours: dict[str, Any] = found.get("tasks", {}).get(task, {})
        return ours

    def samples(self, task: str) -> Iterator[dict[str, Any]]:
        """Yield the sample lines of a task. Raises DataError where there are none."""
        path = self.path.with_name(f"samples_{task}_{key_in(self.path)}.jsonl")
        if not path.is_file():
            raise DataError(f"there is no {path}", "paired tests need the samples of both results")
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    fields = decode_json(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number} is damaged ({error})") from None
                yield fields


def read_results(folder: Path) -> list[Result]:
    """Return the results of a folder, the oldest first. Raises DataError where there are none.

    A folder that lm-evaluation-harness wrote has them one folder further down.
    """
    paths = [*folder.glob("results_*.json"), *folder.glob("*/results_*.json")]
    found = [Result.read(path) for path in paths]
    if not found:
        raise DataError(f"{folder} holds no results_*.json", "illada eval -o FOLDER writes them")
    return sorted(found, key=lambda each: float(each.content.get("date") or 0.0))
