"""A benchmark with its items and all that decides an answer beside the weights; then as asks.

An ask is one thing asked of a model. Its key names the ids, the settings and the weights: equal
keys, equal answers, whatever task or item they come from.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from illada_core.benchmark.definition import Benchmark
from illada_core.benchmark.prompts import choice_request, text_request
from illada_core.benchmark.records import Record
from illada_core.benchmark.shots import Pool, choose_shots
from illada_core.evaluation.items import ChoiceItem, ScoringSettings, prepare_item, tail_ids
from illada_core.evaluation.shapes import ChoiceRequest
from illada_core.files import key_of
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.requests import Prompting, Request
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import TextTask, prepare


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A benchmark as it is given to a checkpoint.

    `samples` are the texts for each item, `published` what others measured, `source` names the
    file of the items, and `preset` who said how (empty: the task's own file).
    """

    benchmark: Benchmark
    records: tuple[Record, ...]
    pool: Pool
    shots: int = 0
    seed: int = 0
    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    settings: Settings = field(default_factory=Settings)
    prompting: Prompting = field(default_factory=Prompting)
    samples: int = 1
    metric: str = ""
    published: dict[str, float] = field(default_factory=dict)
    remark: str = ""
    source: str = ""
    preset: str = ""

    @property
    def name(self) -> str:
        return self.benchmark.name

    @property
    def is_scored(self) -> bool:
        """Whether choices are scored; else texts are written."""
        return self.benchmark.kind == "choices"

    def request(self, record: Record) -> ChoiceRequest | Request:
        """Return an item as it is asked. Raises UsageError where there are too few shots."""
        shots = choose_shots(record, self.pool, self.benchmark, self.shots, self.seed)
        form = choice_request if self.is_scored else text_request
        return form(record, shots, self.benchmark)

    @cached_property
    def named(self) -> dict[str, Any]:
        """Name all that decides a prompt: equal names and items, equal prompts."""
        prompting = vars(self.prompting)
        return {
            "version": self.benchmark.version,
            "shots": self.shots,
            "seed": self.seed if self.shots else None,
            **prompting,
        }


@dataclass(frozen=True)
class Ask:
    """One thing asked of a model: an item's choices, or a text (`sample` tells repeats apart)."""

    exam: Exam
    record: Record
    key: str
    choices: ChoiceItem | None = None
    task: TextTask | None = None
    sample: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether the prompt was cut to fit the context."""
        part = self.choices or self.task
        return part is not None and part.cut > 0


def asks_of(exam: Exam, checkpoint: Checkpoint) -> Iterator[Ask]:
    """Yield what an exam asks, for weights that have no name: to look at, not to be answered."""
    for record in exam.records:
        yield from record_asks(exam, record, checkpoint, "")


def record_asks(exam: Exam, record: Record, checkpoint: Checkpoint, weights: str) -> Iterator[Ask]:
    """Yield what one item asks of a checkpoint whose weights have a name.

    Raises DataError for an item that does not fit the context.
    """
    request = exam.request(record)
    if isinstance(request, ChoiceRequest):
        item = prepare_item(request, checkpoint, exam.scoring, exam.prompting)
        yield Ask(exam, record, choice_key(item, exam.scoring, checkpoint, weights), item)
        return
    task = prepare(request, checkpoint, exam.settings, exam.prompting)
    for sample in range(exam.samples):
        yield Ask(exam, record, text_key(task, sample, checkpoint, weights), None, task, sample)


def choice_key(
    asked: ChoiceItem, scoring: ScoringSettings, checkpoint: Checkpoint, weights: str
) -> str:
    """Name all that decides the sums of an item's choices."""
    named = {
        "rule": scoring.rule,
        "tail": tail_ids(scoring, checkpoint),
        "cfg": scoring.cfg,
        "mask": checkpoint.mask_id,
        "weights": weights,
    }
    item, draws = asked.item, {}
    if scoring.rule == "likelihood":  # it alone draws, and stops by what decides the pick
        divisors = item.divisors if scoring.stop_gap else None
        draws = {"samples": scoring.samples, "stop_gap": scoring.stop_gap, "divisors": divisors}
        draws["seed"] = scoring.seed
    ids = [ids.tolist() for ids in (item.prompt, *item.choices, *item.contexts)]
    return key_of([{**named, **draws}, ids])


def text_key(task: TextTask, sample: int, checkpoint: Checkpoint, weights: str) -> str:
    """Name all that decides a text."""
    tokenizer = checkpoint.tokenizer
    named = {
        **vars(task.settings),
        "mask": checkpoint.mask_id,
        "ends": checkpoint.end_ids,
        "tokenizer": tokenizer.record.sha256 if tokenizer else None,
        "weights": weights,
    }
    gaps = [list(vars(gap).values()) for gap in task.task.gaps]
    return key_of([named, task.task.runs, gaps, sample])
