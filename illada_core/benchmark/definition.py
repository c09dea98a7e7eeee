"""A benchmark as its file says it: how items are asked, and how their answers are graded. No torch.

Those that come with illada are recipes/eval/tasks/NAME.toml; a person's own is any such file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from illada_core.benchmark.templates import check_template
from illada_core.decoding import shaped
from illada_core.errors import UsageError
from illada_core.files import decoding, key_of, read_toml
from illada_core.packaged import packaged, unknown

TABLE = "task"
Kind = Literal["choices", "text", "code"]
Extraction = Literal[
    "whole",
    "hashes",
    "answer-is",
    "answer-is-words",
    "last-number",
    "final-answer",
    "first-letter",
    "answer-letter",
    "completion",
    "fence",
]
MOST_SHOTS = 256


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """How items are asked and graded. Templates hold fields of an item in braces.

    `choices` are scored, `text` is written and compared with the answer, `code` is written and
    run. A shot is the prompt of another item, `delimiter`, and its `target`; `separator` stands
    between shots. They are the `examples` where there are some, else drawn from items whose field
    `by` is the same: the `first`, or a `random` draw that depends on seed and item alone.
    `filters` name the ways to read an answer out of a text. `harness` names the task of
    lm-evaluation-harness that has the same prompts and measures. `given` is how a person named it.
    """

    title: str
    kind: Kind
    prompt: str
    target: str = ""
    options: Literal["texts", "letters"] = "texts"
    clean: Literal["as-is", "strip", "wikihow"] = "as-is"
    description: str = ""
    delimiter: str = " "
    separator: str = "\n\n"
    shots: Annotated[int, range(MOST_SHOTS)] = 0
    draw: Literal["random", "first"] = "random"
    by: str = ""
    examples: tuple[dict[str, Any], ...] = ()
    chat: bool = False
    stop: tuple[str, ...] = ()
    max_new_tokens: Annotated[int, range(1, 1 << 20)] = 256
    filters: dict[str, Extraction] | None = None
    equal: Literal["text", "number", "mathematics"] = "text"
    metric: str = ""
    harness: str = ""
    remark: str = ""
    name: str = ""
    given: str = ""
    version: str = ""

    @property
    def main_metric(self) -> str:
        """The metric that is compared with published numbers, named as the harness does."""
        if self.metric:
            return self.metric
        if self.kind == "choices":
            return "acc,none" if self.options == "letters" else "acc_norm,none"
        name = "pass@1" if self.kind == "code" else "exact_match"
        return f"{name},{next(iter(self.filters or ()), 'none')}"


def packaged_benchmarks() -> dict[str, Path]:
    """Return the benchmarks that come with illada, by name: in the wheel, else in the checkout."""
    return packaged("recipes/eval/tasks")


def find_packaged(wanted: str, known: Mapping[str, Path], noun: str) -> Path:
    """Return the file that a name or a path means. Raises UsageError for an unknown one."""
    if wanted.endswith(".toml") and Path(wanted).is_file():
        return Path(wanted)
    if wanted not in known:
        raise unknown(noun, wanted, known)
    return known[wanted]


def load_benchmark(wanted: str) -> Benchmark:
    """Return a benchmark by its name or its file.

    Raises UsageError for an unknown one, and for whatever in its file cannot be.
    """
    path = find_packaged(wanted, packaged_benchmarks(), "task")
    tables = read_toml(path)
    if tables.keys() != {TABLE} or not isinstance(tables[TABLE], dict):
        raise UsageError(f"{path} must hold one table, [{TABLE}]")
    named = {**tables[TABLE], "name": path.stem, "given": wanted, "version": key_of(tables)}
    with decoding(path, UsageError, fault="is no task"):
        benchmark: Benchmark = shaped(named, Benchmark, TABLE)
        check(benchmark)
    return benchmark


def check(benchmark: Benchmark) -> None:
    """Raise ValueError for a benchmark that contradicts itself."""
    for template in (benchmark.prompt, benchmark.target, benchmark.description):
        check_template(template)
    if benchmark.kind == "choices" and benchmark.filters:
        raise ValueError("filters read texts, and choices have none")
    if benchmark.kind != "choices" and not benchmark.filters:
        raise ValueError("filters say how an answer is read out of a text, and there are none")
    written = {"completion", "fence"}
    are_programs = {each in written for each in (benchmark.filters or {}).values()}
    if benchmark.kind != "choices" and are_programs != {benchmark.kind == "code"}:
        raise ValueError("completion and fence are the filters of code, and of nothing else")
