"""What exams will cost, counted from their prompts before a model is asked: forwards, FLOPs.

Counts are upper bounds: texts may end early, and canvases that are equal are computed once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from illada_core.benchmark.exam import Ask
from illada_core.evaluation.bound import EXACT_LENGTH_LIMIT
from illada_core.evaluation.items import ChoiceItem, ScoringSettings
from illada_core.inference.rules import BLOCK_LENGTH
from illada_core.inference.tasks import TextTask
from illada_core.model.config import ModelConfig
from illada_core.training.recipe.plan import step_flops


@dataclass
class Estimate:
    """What some asks take at most; a token-forward is one token on its way through the model."""

    asks: int = 0
    prompt_tokens: int = 0
    prompts_cut: int = 0
    forwards: int = 0
    token_forwards: int = 0
    flops: float = 0.0

    def add(self, ask: Ask, config: ModelConfig) -> None:
        """Count an ask."""
        self.asks += 1
        self.prompts_cut += ask.is_cut
        if ask.choices is not None:
            self.prompt_tokens += len(ask.choices.item.prompt_of(0))
            passes = choice_passes(ask.choices, ask.exam.scoring)
        else:
            assert ask.task is not None
            self.prompt_tokens += len(ask.task.task.runs[0])
            passes = text_passes(ask.task)
        for forwards, length, rows in passes:
            self.forwards += forwards
            self.token_forwards += forwards * length
            self.flops += forwards * step_flops(config, length, length**2, rows) / 3


def estimate(asks: Iterable[Ask], config: ModelConfig) -> Estimate:
    """Count asks."""
    found = Estimate()
    for ask in asks:
        found.add(ask, config)
    return found


def choice_passes(asked: ChoiceItem, scoring: ScoringSettings) -> list[tuple[int, int, int]]:
    """Return how many forwards of which length an item of choices takes, and the rows of each."""
    item, twice = asked.item, 2 if scoring.cfg else 1
    tail = 1 if scoring.visible_eos else 0
    passes = []
    seen: set[tuple[bytes, int]] = set()
    for place, choice in enumerate(item.choices):
        prompt, length = item.prompt_of(place), len(choice)
        whole = len(prompt) + length + tail
        hidden = (prompt.tobytes(), length)  # all masks: equal for equal lengths
        first = 0 if hidden in seen else 1
        seen.add(hidden)
        if scoring.rule == "exact":
            passes.append((1, len(prompt) + length, length))
            continue
        if scoring.rule == "one-shot":
            forwards = first
        elif scoring.rule == "confidence":
            forwards = first + length - 1
        else:
            sets = 2**length - 1 if length <= EXACT_LENGTH_LIMIT else scoring.samples
            forwards = min(sets, scoring.samples)
        passes.append((twice * forwards, whole, ceil(length / 2)))
    return passes


def text_passes(asked: TextTask) -> list[tuple[int, int, int]]:
    """Return how many forwards of which length a text takes if nothing ends it."""
    settings, prompt = asked.settings, len(asked.task.runs[0])
    budget = sum(gap.length for gap in asked.task.gaps)
    block = settings.block_length or BLOCK_LENGTH
    twice = 2 if settings.cfg else 1
    passes = []
    for start in range(0, budget, block):
        size = min(block, budget - start)
        steps = min(size, settings.steps_per_block or size)
        shown = start + size if settings.grows else budget
        passes.append((twice * steps, prompt + shown, ceil(size / 2)))
    return passes
