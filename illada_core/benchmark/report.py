"""What results say, row by row: ours with its interval, what others measured, and paired tests.

Made from results files alone, ours or those of lm-evaluation-harness. No torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from statistics import fmean
from typing import Any

from illada_core.benchmark.results import Result
from illada_core.benchmark.statistics import Paired, paired
from illada_core.errors import DataError
from illada_core.evaluation.scoring import Z_95

OWN = "illada"  # the model of a suite's figures that the checkpoint is compared with
PREFERRED = ("acc_norm,none", "acc,none", "exact_match,strict-match", "exact_match,none")


@dataclass(frozen=True)
class Row:
    """A task of a result. Shares are of 1; None where nobody knows."""

    task: str
    title: str
    items: int
    metric: str
    value: float
    interval: tuple[float, float]
    shots: int | None
    others: dict[str, float] = field(default_factory=dict)
    published: float | None = None
    forwards: int | None = None
    tokens_per_forward: float | None = None
    cut_by_length: float | None = None
    unread: float | None = None
    seconds: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def is_inside(self) -> bool | None:
        """Whether the published figure lies in the interval; None where there is none."""
        if self.published is None:
            return None
        low, high = self.interval
        return low <= self.published <= high

    def fields(self) -> dict[str, Any]:
        """Return the JSON object of this row."""
        facts = {name: value for name, value in vars(self).items() if name != "remarks"}
        remarks = {"remarks": list(self.remarks)} if self.remarks else {}
        return {**facts, "interval": list(self.interval), "inside": self.is_inside, **remarks}


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Return a row for each task and metric that is reported; of the same task the newest."""
    newest = {task: result for result in results for task in result.tasks}
    return [row for task, result in newest.items() for row in task_rows(result, task)]


def task_rows(result: Result, task: str) -> list[Row]:
    """Return the row of a task by the metric that counts, then one for each other metric."""
    ours, table = result.ours(task), result.content["results"][task]
    metrics = [name for name in table if "," in name and "_stderr," not in name]
    main = str(ours.get("metric") or next((m for m in PREFERRED if m in metrics), ""))
    if main not in metrics:
        if not metrics:
            return []  # a group of tasks
        main = metrics[0]
    others = [name for name in metrics if name != main]
    return [row_of(result, task, name, name == main) for name in (main, *others)]


def row_of(result: Result, task: str, metric: str, is_main: bool) -> Row:
    """Return the row of one metric of a task."""
    content, ours = result.content, result.ours(task)
    value = float(content["results"][task][metric])
    figures = {name: figure / 100 for name, figure in ours.get("published", {}).items()}
    texts, items = ours.get("texts", 0), content["n-samples"][task]["effective"]
    filter_name = metric.partition(",")[2]
    unread = ours.get("unread", {}).get(filter_name)
    return Row(
        task=task,
        title=str(ours.get("title") or task),
        items=items,
        metric=metric,
        value=value,
        interval=interval_of(content["results"][task], metric, ours),
        shots=int(content.get("n-shot", {}).get(task, 0)),
        others={name: figure for name, figure in figures.items() if name != OWN and is_main},
        published=figures.get(OWN, next(iter(figures.values()), None)) if is_main else None,
        forwards=ours.get("forwards"),
        tokens_per_forward=ours["new_tokens"] / max(1, ours["forwards"]) if texts else None,
        cut_by_length=ours["cut_by_length"] / texts if texts else None,
        unread=unread / items if texts and unread is not None else None,
        seconds=ours.get("seconds"),
        remarks=tuple(ours.get("remarks", ())) if is_main else (),
    )


def average_of(rows: Sequence[Row]) -> Row | None:
    """Return the mean over tasks, each by its first metric; None of fewer than two.

    Its interval takes the items of each task for a draw of their own. Published figures have a mean
    where every task has one.
    """
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(row.task, row)
    if len(firsts) < 2:
        return None
    tasks = list(firsts.values())
    value, count = fmean(row.value for row in tasks), len(tasks)
    below = hypot(*(row.value - row.interval[0] for row in tasks)) / count
    above = hypot(*(row.interval[1] - row.value for row in tasks)) / count
    published = [row.published for row in tasks if row.published is not None]
    return Row(
        task="average",
        title=f"average of {count} tasks",
        items=sum(row.items for row in tasks),
        metric=f"mean of {count}",
        value=value,
        interval=(value - below, value + above),
        shots=None,
        published=fmean(published) if len(published) == count else None,
    )


def interval_of(
    table: Mapping[str, Any], metric: str, ours: Mapping[str, Any]
) -> tuple[float, float]:
    """Return the 95 % interval of a metric: the one that was written, or from its error."""
    known = ours.get("intervals", {}).get(metric)
    if known:
        return float(known[0]), float(known[1])
    name, _, filter_name = metric.partition(",")
    error, value = table.get(f"{name}_stderr,{filter_name}"), float(table[metric])
    if not isinstance(error, int | float):
        return 0.0, 1.0
    return value - Z_95 * error, value + Z_95 * error


@dataclass(frozen=True)
class Comparison:
    """One task of two results, item by item; `alone` counts items that only one of them has."""

    task: str
    metric: str
    paired: Paired
    alone: int

    def fields(self) -> dict[str, Any]:
        """Return the JSON object of this comparison."""
        test = {**vars(self.paired), "interval": list(self.paired.interval)}
        return {"task": self.task, "metric": self.metric, **test, "alone": self.alone}


def compare(one: Sequence[Result], other: Sequence[Result]) -> list[Comparison]:
    """Compare the tasks that two results share, on the prompts that they share.

    Raises DataError where they share none.
    """
    first = {task: result for result in one for task in result.tasks}
    second = {task: result for result in other for task in result.tasks}
    found = []
    for task in first:
        if task in second:
            metric = task_rows(first[task], task)[0].metric
            found.append(compare_task(task, metric, first[task], second[task]))
    if not found:
        raise DataError(
            "the two results share no task",
            f"they have {', '.join(first)}, and {', '.join(second)}",
        )
    return found


def compare_task(task: str, metric: str, one: Result, other: Result) -> Comparison:
    """Compare a task item by item. Raises DataError where no item has the same prompt in both."""
    first, second = by_prompt(one, task, metric), by_prompt(other, task, metric)
    shared = [name for name in first if name in second]
    if not shared:
        raise DataError(
            f"{task}: the two results share no prompt",
            "shots, task file or items differ; paired tests need the same prompts",
        )
    test = paired([first[name] for name in shared], [second[name] for name in shared])
    return Comparison(task, metric, test, len(first.keys() ^ second.keys()))


def by_prompt(result: Result, task: str, metric: str) -> dict[tuple[str, str, int], float]:
    """Return the values of a metric by prompt and target; equal items are told apart by number."""
    name, _, filter_name = metric.partition(",")
    values: dict[tuple[str, str, int], float] = {}
    for line in result.samples(task):
        if line["filter"] != filter_name or name not in line:
            continue
        number = 0
        while (line["prompt_hash"], line["target_hash"], number) in values:
            number += 1
        values[line["prompt_hash"], line["target_hash"], number] = float(line[name])
    return values
