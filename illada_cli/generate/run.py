"""The work of `illada generate`: requests go in as they arrive, texts come out in their order."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from illada_cli.generate.input import Requests
from illada_cli.generate.options import GenerateOptions
from illada_cli.generate.writer import LedgerWriter, TextWriter, Writer
from illada_cli.jsonl import IDLE_S, BeforeFault
from illada_cli.ledger import Ledger, ledger_path, open_ledger
from illada_cli.opening import open_asked
from illada_cli.signals import Stop, stop_on_signals
from illada_cli.ui import Advance, Talk, plural
from illada_core.errors import DataError
from illada_core.inference.checkpoint import Checkpoint, choose_device
from illada_core.inference.requests import Prompting
from illada_core.inference.settings import Settings
from illada_core.inference.tasks import TextTask, prepare
from illada_core.inference.text_sampler import Generation, TextSampler, complete_settings
from illada_core.inference.trace import Trace, open_trace
from illada_core.model.replay import replayed
from illada_core.model.transformer import Transformer
from illada_core.model.weights import digest_of_weights


@dataclass
class GenerationTally:
    """What was generated so far; `forwards` is the sum over prompts, `seconds` the time it took."""

    finished: int = 0
    new_tokens: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def count(self, generation: Generation) -> None:
        self.finished += 1
        self.new_tokens += generation.new_tokens
        self.forwards += generation.forwards

    def sentence(self, sampler: TextSampler) -> str:
        """Say it in a line: end tokens and what was cut are not counted as new."""
        peak_bytes, kept_bytes = peak_memory_bytes(sampler.device), sampler.kept_bytes
        kept = f", keys and values {kept_bytes / 2**30:.2f} GiB" if kept_bytes else ""
        return (
            f"{plural(self.finished, 'text')}, {plural(self.new_tokens, 'new token')} "
            f"in {plural(self.forwards, 'forward')} "
            f"({self.new_tokens / max(1, self.forwards):.2f} tokens per forward, "
            f"{plural(sampler.forwards, 'call')} of the model), {self.seconds:.2f} s, "
            f"{self.new_tokens / max(1e-9, self.seconds):.1f} tokens/s, "
            f"peak memory {peak_bytes / 2**30:.2f} GiB{kept}"
        )


def run(asked: GenerateOptions, requests: Requests, talk: Talk) -> None:
    """Open the checkpoint, and write the texts that are asked for."""
    checkpoint = open_asked(asked, talk)
    settings, notices = complete_settings(asked.settings, checkpoint)
    for notice in notices:
        talk.warn(notice)
    prompting = Prompting(asked.bos, asked.truncate)
    arriving = prepare_all(requests, checkpoint, settings, prompting, talk)
    if requests.are_known:
        # What is known must be right before the weights are loaded.
        arriving = iter(list(arriving))
    device = choose_device(asked.device)
    weights = checkpoint.load(device, asked.dtype, asked.quantize)
    budgets = (asked.batch_tokens, asked.cache_tokens)
    sampler = TextSampler(checkpoint, replayed(weights, asked.graphs), device, *budgets)
    talk.detail(f"{checkpoint.folder} on {sampler.device}")
    numbered = number_samples(arriving, asked.samples)
    keep = ledger_path(asked.output)
    if keep is None:
        as_json = asked.as_json or asked.output is not None
        writer = TextWriter(sampler, as_json, asked.stream, asked.samples)
        write_texts(sampler, numbered, writer, asked.trace, talk)
        return
    named = named_settings(settings, checkpoint, weights)
    with open_ledger(keep, named, asked.fresh, fault_of) as ledger:
        write_texts(sampler, numbered, LedgerWriter(ledger, asked.samples), None, talk)
        conclude(ledger, talk)


def named_settings(settings: Settings, checkpoint: Checkpoint, weights: Transformer) -> str:
    """Name all that decides a text beside its prompt: equal names, equal texts."""
    tokenizer = checkpoint.tokenizer
    named = {
        **vars(settings),
        "mask_id": checkpoint.mask_id,
        **checkpoint.named_reading,
        "end_ids": checkpoint.end_ids,
        "dtype": str(weights.compute_dtype),
        "tokenizer": tokenizer.record.sha256 if tokenizer else None,
        "weights": digest_of_weights(weights),
    }
    return json.dumps(named, sort_keys=True)


def fault_of(fields: dict[str, Any]) -> str | None:
    """Say why a line of an output file is no text of ours, None if it is one."""
    is_text = "finish_reason" in fields and "output_ids" in fields
    return None if is_text else "not written by illada generate -o"


def conclude(ledger: Ledger, talk: Talk) -> None:
    """Say what the file held before. Raises UsageError if it holds more than was asked for."""
    ledger.refuse_rest(ledger.recalled + ledger.written, "text")
    if ledger.recalled:
        talk.say(f"{plural(ledger.recalled, 'text')} had been written before")


def prepare_all(
    requests: Requests,
    checkpoint: Checkpoint,
    settings: Settings,
    prompting: Prompting,
    talk: Talk,
) -> Iterator[TextTask | None]:
    """Turn requests into tasks; what cannot be one is refused as a bad line."""
    context = checkpoint.config.max_length
    for request in requests.arriving:
        if request is None:
            yield None
            continue
        try:
            task = prepare(request, checkpoint, settings, prompting)
        except DataError as error:
            if requests.lines is None or request.line is None:
                raise
            requests.lines.refuse(request.line, error)
            continue
        if task.cut:
            talk.warn("prompts are cut on the left to fit the context")
        if task.unknown:
            talk.say_once(checkpoint.require_tokenizer().tell_unknown(task.unknown))
        if task.is_short:
            talk.say_once(
                f"the context of {context:,} leaves room for fewer than "
                f"{plural(settings.max_new_tokens, 'new token')}"
            )
        yield task


def number_samples(
    arriving: Iterator[TextTask | None], samples: int
) -> Iterator[tuple[TextTask, int] | None]:
    """Return each task as many times as samples of it are wanted, numbered."""
    for task in arriving:
        if task is None:
            yield None
        else:
            yield from ((task, sample) for sample in range(samples))


def write_texts(
    sampler: TextSampler,
    arriving: Iterator[tuple[TextTask, int] | None],
    writer: Writer,
    trace_path: Path | None,
    talk: Talk,
) -> None:
    """Generate for all requests before a bad line, which is an error then, and say what it took.

    Raises StoppedBySignal after an orderly stop.
    """
    sound = BeforeFault(arriving)
    with (
        open_trace(trace_path, sampler.checkpoint.tokenizer) as trace,
        # A live bar and streamed text would share the terminal.
        replace(talk, quiet=talk.quiet or writer.stream).progress(
            "generating", None, "tok"
        ) as advance,
        stop_on_signals("stopping; finished texts are written") as stop,
    ):
        tally = generate_all(sampler, iter(sound), writer, trace, advance, stop)
    talk.say(tally.sentence(sampler))
    resume = "run the same command again to go on" if isinstance(writer, LedgerWriter) else None
    stop.leave(f"stopped by a signal, with {plural(sampler.live, 'text')} unfinished", resume)
    sound.raise_fault()


def generate_all(
    sampler: TextSampler,
    arriving: Iterator[tuple[TextTask, int] | None],
    writer: Writer,
    trace: Trace | None,
    advance: Advance,
    stop: Stop,
) -> GenerationTally:
    """Run requests through the sampler until none is left or a stop is asked for.

    None from `arriving` means that the next request is not there yet.
    """
    tally = GenerationTally()
    more_may_come = True
    while (more_may_come or sampler.live) and not stop.requested():
        more_may_come = more_may_come and admit(sampler, writer, arriving)
        if not sampler.live:
            time.sleep(IDLE_S if more_may_come else 0.0)
            continue
        started = time.perf_counter()
        for index, event in sampler.step():
            if isinstance(event, Generation):
                tally.count(event)
                writer.complete(index, event)
                continue
            advance(len(event.token_B))
            if trace:
                trace.write(event)
            if event.block_done:
                writer.show_settled(index)
        tally.seconds += time.perf_counter() - started
    writer.write_rest()
    return tally


def admit(
    sampler: TextSampler, writer: Writer, arriving: Iterator[tuple[TextTask, int] | None]
) -> bool:
    """Bring in requests while there is room; return whether more may come later."""
    while sampler.has_room:
        try:
            arrived = next(arriving)
        except StopIteration:
            return False
        if arrived is None:
            return True
        if writer.admit(*arrived):
            sampler.add(*arrived)
    return True


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory used so far, on the GPU or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
