"""From options to exams: which tasks, their items from files, and how each is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from illada_cli.eval.options import EvalOptions
from illada_cli.ui import Talk
from illada_core.benchmark.definition import Benchmark, load_benchmark
from illada_core.benchmark.exam import Exam
from illada_core.benchmark.records import read_records
from illada_core.benchmark.shots import example_pool, pool_of
from illada_core.benchmark.suites import Entry, Suite, load_suite
from illada_core.errors import UsageError
from illada_core.evaluation.items import ScoringSettings
from illada_core.inference.presets import load_preset
from illada_core.inference.requests import Prompting
from illada_core.inference.settings import Settings, described_settings, parse_setting

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet", ".arrow")
HARNESS = "harness:"  # before the name of one of its tasks, or a YAML file
SCORING = [each.name for each in fields(ScoringSettings) if each.name != "delimiter"]


def build_exams(asked: EvalOptions, talk: Talk) -> list[Exam]:
    """Return the exams that the options ask for, of our own tasks. UsageError or DataError."""
    suite = load_suite(asked.preset) if asked.preset else None
    names = [name for name in task_names(asked, suite, talk) if not is_harness(name)]
    changes = changed_settings(asked.changes)
    return [build_exam(name, names, asked, suite, changes, talk) for name in names]


def is_harness(name: str) -> bool:
    """Tell whether a task is one of lm-evaluation-harness."""
    return name.startswith(HARNESS)


def task_names(asked: EvalOptions, suite: Suite | None, talk: Talk) -> list[str]:
    """Return the tasks in order: those of --tasks, else those of the preset that have items."""
    if asked.tasks is not None:
        names = [name for name in asked.tasks.split(",") if name]
        if len(set(names)) < len(names):
            raise UsageError("--tasks names a task twice")
        return [name if is_harness(name) else our_name(name, suite) for name in names]
    assert suite is not None
    names = [each.task for each in suite.tasks]
    found = [name for name in names if find_data(name, asked.data, names)]
    if missing := [name for name in names if name not in found]:
        talk.warn(f"there are no items for {', '.join(missing)}: left out")
    if not found:
        raise UsageError("no task of the preset has items", "--data FOLDER holds TASK.jsonl")
    return found


def our_name(name: str, suite: Suite | None) -> str:
    """Return our name of a task that a preset knows by the harness's."""
    entry = suite.entry(name) if suite else None
    return entry.task if entry else name


def harness_names(asked: EvalOptions, talk: Talk) -> list[str]:
    """Return the tasks of the harness that are asked for. Raises UsageError without the extra."""
    suite = load_suite(asked.preset) if asked.preset else None
    names = [
        name.removeprefix(HARNESS) for name in task_names(asked, suite, talk) if is_harness(name)
    ]
    if names or asked.baseline:
        try:
            import lm_eval  # noqa: F401 (only whether it is there)
        except ModuleNotFoundError:
            raise UsageError(
                f"{asked.baseline or HARNESS + names[0]} needs lm-evaluation-harness",
                "pip install 'illada[eval]'",
            ) from None
    return names


def build_exam(
    name: str,
    names: Sequence[str],
    asked: EvalOptions,
    suite: Suite | None,
    changes: Mapping[str, Any],
    talk: Talk,
) -> Exam:
    """Return one task as an exam."""
    benchmark = load_benchmark(name)
    if asked.chat:
        benchmark = replace(benchmark, chat=True)
    entry = suite.entry(name) if suite else None
    if suite and entry is None:
        talk.warn(f"{suite.name} has no {name}: it is asked as its own file says")
    path = require_data(name, asked.data, names)
    shots = first_given(asked.shots, entry and entry.shots, benchmark.shots)
    drawn = find_data(name, asked.shots_from, names) if asked.shots_from else None
    draws_own = shots > 0 and not benchmark.examples and drawn is None
    records = read_records(path, benchmark, None if draws_own else asked.limit)
    pool = example_pool(benchmark) if benchmark.examples else pool_of(records)
    if drawn:
        pool = pool_of(read_records(drawn, benchmark))
        benchmark = replace(benchmark, examples=())
    if draws_own:
        talk.warn(
            f"{name}: shots are drawn from the items themselves, never the own; --shots-from "
            "names others"
        )
    return Exam(
        benchmark=benchmark,
        records=tuple(records[: asked.limit]),
        pool=pool,
        shots=shots,
        seed=asked.seed,
        scoring=scoring_of(benchmark, entry, changes, asked),
        settings=settings_of(benchmark, entry, changes, asked),
        prompting=Prompting(first_given(asked.bos, entry and entry.bos), asked.truncate),
        samples=first_given(asked.samples, entry and entry.samples, 1),
        metric=(entry.metric if entry else "") or benchmark.main_metric,
        published=entry.published if entry else {},
        remark=entry.remark if entry else "",
        source=Path(path).name,
        preset=suite.name if suite and entry else "",
    )


def first_given(*values: Any) -> Any:
    """Return the first value that is given."""
    return next((value for value in values if value is not None), None)


def scoring_of(
    benchmark: Benchmark, entry: Entry | None, changes: Mapping[str, Any], asked: EvalOptions
) -> ScoringSettings:
    """Return how choices are scored: options, else the preset's, else defaults. UsageError."""
    own = {name: value for name, value in changes.items() if name in SCORING}
    named = {"seed": asked.seed, **(entry.score if entry else {}), **own}
    for name in named:
        if name not in SCORING:
            raise UsageError(f"there is no setting {name} of scoring", f"known: {SCORING}")
    settings = ScoringSettings(**named, delimiter="" if benchmark.chat else benchmark.delimiter)
    if settings.pick_only:
        raise UsageError("pick_only leaves sums unfinished, which acc_norm needs")
    return settings


def settings_of(
    benchmark: Benchmark, entry: Entry | None, changes: Mapping[str, Any], asked: EvalOptions
) -> Settings:
    """Return how texts are written: options, else the preset's, else the task's budget."""
    named = (entry.generate if entry else None) or {}
    preset = load_preset(named) if isinstance(named, str) else named
    known = described_settings()
    own = {name: value for name, value in changes.items() if name in known}
    base = {"max_new_tokens": benchmark.max_new_tokens, "seed": asked.seed}
    return Settings(**{**base, **preset, **own})


def changed_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs of settings. Raises UsageError for a name that there is not."""
    known = [*described_settings(), *SCORING]
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise UsageError(f"--set is NAME=VALUE with the name of a setting, not {pair}", hint)
        changes[name] = (
            parse_setting(name, text) if name in described_settings() else parse_scoring(name, text)
        )
    return changes


def parse_scoring(name: str, text: str) -> Any:
    """Read a setting of scoring from what a person typed. Raises UsageError."""
    default = getattr(ScoringSettings(), name)
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise UsageError(f"{name} is true or false, not {text}")
        return text == "true"
    try:
        return type(default)(text)
    except ValueError:
        raise UsageError(f"{name} is a number, not {text}") from None


def require_data(name: str, given: Sequence[str], names: Sequence[str]) -> str:
    """Return the file of a task's items. Raises UsageError where none is given."""
    found = find_data(name, given, names)
    if found is None:
        raise UsageError(
            f"there are no items for {name}",
            f"--data {name}=FILE, or a folder with {name}.jsonl; "
            f"{HARNESS}{name} is the task of lm-evaluation-harness",
        )
    return found


def find_data(name: str, given: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the file that the options give a task: by its name, in a folder, or the only one.

    Raises UsageError for a path that is not there.
    """
    name = Path(name).stem
    known = {Path(each).stem for each in names}
    for pair in given:
        task, equals, path = pair.partition("=")
        if equals and task not in known and not Path(pair).exists():
            raise UsageError(
                f"--data {pair}: {task} is none of the tasks", ", ".join(sorted(known))
            )
        if equals and task == name:
            return existing(path)
    for path in given:
        if Path(path).is_dir():
            beside = [Path(path) / f"{name}{suffix}" for suffix in SUFFIXES]
            if found := next((each for each in beside if each.is_file()), None):
                return str(found)
        elif len(names) == 1 and "=" not in path:
            return existing(path)
    return None


def existing(path: str) -> str:
    """Return a path of something that is there, or a hub data set. Raises UsageError."""
    if not path.startswith("hf:") and not Path(path).exists():
        raise UsageError(f"there is no file {path}")
    return path


def by_rule(exams: Sequence[Exam], rule: Any) -> list[Exam]:
    """Return exams whose choices are scored by a rule, whatever they said."""
    return [replace(exam, scoring=replace(exam.scoring, rule=rule)) for exam in exams]
