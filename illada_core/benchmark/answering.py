"""Asks through a model, whatever tasks they come from: choices in shared batches, texts likewise.

What is answered already is not asked again, and equal asks are asked once.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from illada_core.benchmark.answers import Answers
from illada_core.benchmark.exam import Ask
from illada_core.evaluation.items import rule_for
from illada_core.evaluation.questions import reader_for
from illada_core.evaluation.scoring import Scorer, Scores
from illada_core.inference.checkpoint import Checkpoint
from illada_core.inference.text_sampler import Generation, TextSampler
from illada_core.model.replay import Replay, replayed
from illada_core.model.transformer import Transformer
from illada_core.model.weights import digest_of_weights

DECIMALS = 6
IsStopped = Callable[[], bool]


@dataclass(frozen=True)
class Engine:
    """A loaded checkpoint, and how much of it is asked at once."""

    checkpoint: Checkpoint
    model: Transformer
    device: str
    batch_tokens: int | None = None
    cache_tokens: int | None = None
    graphs: bool = False

    @cached_property
    def writer(self) -> Transformer | Replay:
        """The model as it writes texts."""
        return replayed(self.model, self.graphs)

    @cached_property
    def weights(self) -> str:
        """The name of the weights, of how they are read, and of the type that is computed in."""
        reading = self.checkpoint.reading
        how = f"{reading.attention} shift={reading.shift} {self.model.compute_dtype}"
        return f"{how} {digest_of_weights(self.model)}"


def answer(
    asks: Iterable[Ask], engine: Engine, answers: Answers, is_stopped: IsStopped
) -> Iterator[int]:
    """Ask for what has no answer yet, all of one kind; yield how many answers each step wrote.

    Choices must agree in their guidance. Ends early once `is_stopped`.
    """
    waiting = new_asks(asks, answers)
    first = next(waiting, None)
    if first is None:
        return
    work: ChoiceWork | TextWork = (TextWork if first.task else ChoiceWork)(engine, first)
    work.add(first)
    more, begun = True, time.perf_counter()
    while (more or work.is_under_way) and not is_stopped():
        while more and work.has_room:
            found = next(waiting, None)
            more = found is not None
            if found is not None:
                work.add(found)
        done = list(work.step()) if work.is_under_way else []
        now = time.perf_counter()
        for ask, fields in done:
            facts = {"task": ask.exam.name, "doc": ask.record.place, **fields}
            answers.write(ask.key, {**facts, "seconds": round((now - begun) / len(done), 4)})
        begun = now if done else begun
        yield len(done)


def new_asks(asks: Iterable[Ask], answers: Answers) -> Iterator[Ask]:
    """Yield asks that nobody has answered or asked."""
    asked: set[str] = set()
    for ask in asks:
        if ask.key not in answers and ask.key not in asked:
            asked.add(ask.key)
            yield ask


class ChoiceWork:
    """Items whose choices are being scored."""

    def __init__(self, engine: Engine, first: Ask) -> None:
        guidance = first.exam.scoring.cfg
        self.engine = engine
        self.scorer = Scorer(
            reader_for(
                engine.model,
                engine.checkpoint.mask_id,
                guidance,
                engine.device,
                engine.batch_tokens,
            )
        )
        self.guidance = guidance
        self.asks: deque[Ask] = deque()

    @property
    def has_room(self) -> bool:
        return self.scorer.has_room

    @property
    def is_under_way(self) -> bool:
        return bool(self.asks)

    def add(self, ask: Ask) -> None:
        assert ask.choices is not None
        assert ask.exam.scoring.cfg == self.guidance
        self.scorer.add(ask.choices.item, rule_for(ask.exam.scoring, self.engine.checkpoint))
        self.asks.append(ask)

    def step(self) -> Iterator[tuple[Ask, dict[str, Any]]]:
        """Answer what all items ask at the moment; yield those that are finished."""
        for batch in self.scorer.step():
            for scores in batch.scores:
                ask = self.asks.popleft()
                yield ask, choice_fields(ask, scores)


def choice_fields(ask: Ask, scores: Scores) -> dict[str, Any]:
    """Return the answer to an item of choices as it is kept."""
    assert ask.choices is not None
    fields: dict[str, Any] = {
        "sums": [round(total, DECIMALS) for total in scores.sums],
        "tokens": list(ask.choices.sizes.tokens),
        "forwards": scores.forwards,
        "cut": ask.choices.cut,
    }
    return fields if scores.samples is None else {**fields, "samples": scores.samples}


class TextWork:
    """Texts that are being written."""

    def __init__(self, engine: Engine, first: Ask) -> None:
        budgets = (engine.batch_tokens, engine.cache_tokens)
        self.sampler = TextSampler(engine.checkpoint, engine.writer, engine.device, *budgets)
        self.asks: dict[int, Ask] = {}

    @property
    def has_room(self) -> bool:
        return self.sampler.has_room

    @property
    def is_under_way(self) -> bool:
        return bool(self.asks)

    def add(self, ask: Ask) -> None:
        assert ask.task is not None
        self.asks[self.sampler.add(ask.task, ask.sample)] = ask

    def step(self) -> Iterator[tuple[Ask, dict[str, Any]]]:
        """Call the model once; yield the texts that are finished."""
        for index, event in self.sampler.step():
            if isinstance(event, Generation):
                ask = self.asks.pop(index)
                yield ask, text_fields(ask, event)


def text_fields(ask: Ask, generation: Generation) -> dict[str, Any]:
    """Return a text as it is kept."""
    assert ask.task is not None
    return {
        "sample": ask.sample,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "new_tokens": generation.new_tokens,
        "forwards": generation.forwards,
        "cut": ask.task.cut,
    }
