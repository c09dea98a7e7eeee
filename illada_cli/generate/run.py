"""The work of `illada generate`: prompts go in as they arrive, answers come out in their order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from illada_cli.generate.answers import Answers
from illada_cli.generate.requests import Prepared
from illada_cli.generate.trace import Trace, open_trace
from illada_cli.jsonl import BeforeFault
from illada_cli.signals import Stop, stop_on_signals
from illada_cli.ui import Advance, Talk

if TYPE_CHECKING:
    import torch

    from illada_core.inference.sampler import Completion, Sampler

IDLE_S = 0.02


@dataclass
class Tally:
    """What was generated so far; `forwards` is the sum over prompts, `seconds` the time it took."""

    finished: int = 0
    new_tokens: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def count(self, completion: Completion) -> None:
        self.finished += 1
        self.new_tokens += len(completion.output_ids)
        self.forwards += completion.forwards

    def sentence(self, calls: int, peak_bytes: int) -> str:
        """Say it in a line: end tokens and what was cut are not counted as new."""
        texts = "1 text" if self.finished == 1 else f"{self.finished:,} texts"
        return (
            f"{texts}, {self.new_tokens:,} new tokens in {self.forwards:,} forwards "
            f"({self.new_tokens / max(1, self.forwards):.2f} tokens per forward, "
            f"{calls:,} calls of the model), {self.seconds:.2f} s, "
            f"{self.new_tokens / max(1e-9, self.seconds):.1f} tokens/s, "
            f"peak memory {peak_bytes / 2**30:.2f} GiB"
        )


def repeated(arriving: Iterable[Prepared | None], samples: int) -> Iterator[Prepared | None]:
    """Return each prompt as many times as samples of it are wanted."""
    for prepared in arriving:
        if prepared is None:
            yield None
            continue
        for sample in range(samples):
            yield replace(prepared, task=replace(prepared.task, sample=sample))


def write_texts(
    sampler: Sampler,
    arriving: Iterator[Prepared | None],
    answers: Answers,
    trace_path: Path | None,
    talk: Talk,
) -> None:
    """Generate for all prompts before a bad line, which is an error then, and say what it took.

    Raises StoppedBySignal after an orderly stop.
    """
    sound = BeforeFault(arriving)
    with (
        open_trace(trace_path, answers.tokenizer) as trace,
        # A live bar and streamed text would share the terminal.
        replace(talk, quiet=talk.quiet or answers.stream).progress(
            "generating", None, "tok"
        ) as advance,
        stop_on_signals("stopping; finished texts are written") as stop,
    ):
        tally = generate_all(sampler, iter(sound), answers, trace, advance, stop)
    talk.say(tally.sentence(sampler.forwards, peak_memory_bytes(sampler.device)))
    stop.leave(f"stopped by a signal, with {len(sampler.live)} texts unfinished")
    sound.raise_fault()


def generate_all(
    sampler: Sampler,
    arriving: Iterator[Prepared | None],
    answers: Answers,
    trace: Trace | None,
    advance: Advance,
    stop: Stop,
) -> Tally:
    """Run prompts through the sampler until none is left or a stop is asked for.

    None from `arriving` means that the next prompt is not there yet.
    """
    from illada_core.inference.sampler import Completion

    tally = Tally()
    is_open = True
    while (is_open or sampler.live) and not stop.requested():
        is_open = is_open and admit(sampler, arriving, answers)
        if not sampler.live:
            time.sleep(IDLE_S)
            continue
        started = time.perf_counter()
        for event in sampler.step():
            if isinstance(event, Completion):
                tally.count(event)
                answers.complete(event)
                continue
            advance(len(event.token_B))
            if trace:
                trace.write(event)
            if event.block_done and len(event.filled) == 1:
                answers.show_block(event.index, event.filled[0].tolist())
        tally.seconds += time.perf_counter() - started
    answers.write_rest()
    return tally


def admit(sampler: Sampler, arriving: Iterator[Prepared | None], answers: Answers) -> bool:
    """Bring in prompts while there is room; return whether more may come later."""
    while sampler.has_room:
        try:
            prepared = next(arriving)
        except StopIteration:
            return False
        if prepared is None:
            return True
        answers.expect(sampler.add(prepared.task), prepared)
    return True


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory used so far, on the GPU or by this process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
