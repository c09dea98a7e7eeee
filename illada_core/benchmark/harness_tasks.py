"""Tasks of lm-evaluation-harness, asked through our model and written as results of ours.

The harness brings data (from the hub, or where a task's YAML says), prompts, filters and metrics.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from illada_core.benchmark.harness import ALONE_SENTENCE, IlladaLM
from illada_core.benchmark.results import Result, SampleWriter, hashed
from illada_core.benchmark.statistics import mean_of
from illada_core.decoding import decode_json
from illada_core.errors import DataError, UsageError
from illada_core.files import key_of, write_json

# Metrics that take sums of scores for probabilities, or the flag that is always False for a hit.
MEANINGLESS = {
    "multiple_choice": ("brier_score", "likelihood", "exact_match"),
    "loglikelihood": (),
    "loglikelihood_rolling": (),
}


@dataclass(frozen=True, kw_only=True)
class HarnessExam:
    """A task or group of the harness, and how it is asked; `ours` is what results say of it."""

    name: str
    shots: int | None = None
    limit: int | None = None
    seed: int = 0
    chat: bool = False
    run_code: bool = False
    how: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)


def examine(exam: HarnessExam, model: IlladaLM, folder: Path, facts: dict[str, Any]) -> Result:
    """Ask a task through a model, and write what came of it.

    Raises UsageError for a task that there is not or whose metrics mean nothing here, DataError
    where its data cannot be had.
    """
    is_file = exam.name.endswith((".yaml", ".yml"))
    wanted = str(Path(exam.name).resolve()) if is_file else exam.name
    if is_file and not Path(wanted).is_file():
        raise UsageError(f"there is no file {exam.name}")
    manager = TaskManager(include_defaults=not is_file)
    for name, task in load(wanted, manager).items():
        refuse_meaningless(name, task)
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[wanted],
        task_manager=manager,
        num_fewshot=exam.shots,
        limit=exam.limit,
        apply_chat_template=exam.chat,
        fewshot_random_seed=exam.seed,
        bootstrap_iters=1000,
        confirm_run_unsafe_code=exam.run_code,
    )
    samples = found.pop("samples")
    kept = facts["ours"]
    key = key_of([model.engine.weights, exam.name, exam.shots, exam.limit, dict(exam.how)])
    for name, lines in samples.items():
        with SampleWriter(folder, name, key) as writer:
            writer.write([plain(stored(line)) for line in lines])
    hashes = {name: hashed("".join(map(hashes_of, lines))) for name, lines in samples.items()}
    about = {
        name: {**exam.ours, **vars(cost), "intervals": intervals(samples[name])}
        for name, cost in model.costs.items()
    }
    content = {
        **found,
        "config": {**found["config"], "model": "illada", "illada": {**kept, "tasks": about}},
        "task_hashes": hashes,
        "model_name": facts["model_name"],
        "model_source": "illada",
        "date": time.time(),
    }
    path = folder / f"results_{key}.json"
    write_json(path, plain(content))
    return Result.read(path)


def intervals(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each metric that is a number for each item."""
    values: dict[str, list[float]] = {}
    for line in lines:
        for metric in line["metrics"]:
            if isinstance(line[metric], int | float):
                values.setdefault(f"{metric},{line['filter']}", []).append(float(line[metric]))
    return {name: mean_of(found).interval for name, found in values.items()}


def load(wanted: str, manager: TaskManager) -> dict[str, Any]:
    """Return the tasks that a name means, with their data. Raises UsageError or DataError."""
    if Path(wanted).suffix not in (".yaml", ".yml") and wanted not in manager.all_tasks:
        near = get_close_matches(wanted, manager.all_tasks, n=1)
        hint = f"did you mean {near[0]}?" if near else "lm_eval ls tasks lists what it has"
        raise UsageError(f"lm-evaluation-harness has no task {wanted}", hint)
    try:
        found: dict[str, Any] = manager.load([wanted])["tasks"]
    except Exception as error:  # whatever its loaders raise: no network, no data, no package
        raise DataError(
            f"{wanted} or its data cannot be had ({first_line(error)})",
            "most items come from the hub; our own tasks take files: --data TASK=FILE",
        ) from None
    return found


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its name where it says nothing."""
    return (str(error).strip("'\"").splitlines() or [type(error).__name__])[0]


def refuse_meaningless(name: str, task: Any) -> None:
    """Raise UsageError for a task whose figure would mean nothing for a diffusion model."""
    kind = task.OUTPUT_TYPE
    if kind in ("loglikelihood", "loglikelihood_rolling"):
        hint = "illada score --text bounds the perplexity of a text"
        raise UsageError(ALONE_SENTENCE.format(task=name), hint)
    asked = [entry.get("metric") for entry in task.config.metric_list or []]
    wrong = [metric for metric in MEANINGLESS.get(kind, ()) if metric in asked]
    if wrong:
        raise UsageError(
            f"{name} reads {wrong[0]} off the scores of choices, which are no likelihoods",
            "acc and acc_norm are read off their order alone",
        )


def stored(line: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as the harness writes it: arguments by name, the target as text."""
    arguments = {
        f"gen_args_{place}": {f"arg_{at}": part for at, part in enumerate(parts)}
        for place, parts in enumerate(line["arguments"])
    }
    return {**line, "arguments": arguments, "target": str(line["target"])}


def hashes_of(line: Mapping[str, Any]) -> str:
    """Return the names of a sample's document, prompt and target."""
    return str(line["doc_hash"] + line["prompt_hash"] + line["target_hash"])


def plain(value: Any) -> Any:
    """Return what the harness made as plain JSON: its own types as text."""
    return decode_json(json.dumps(value, default=handle_non_serializable), may_hold_halves=True)
