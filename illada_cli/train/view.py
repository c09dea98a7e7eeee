"""How a training run looks on a terminal or in a log: its events as a bar and as sentences."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from illada_cli.ui import Advance, Talk, si
from illada_core.training.events import (
    DecayBegan,
    Event,
    Finished,
    Noticed,
    Sampled,
    Saved,
    Started,
    StepDone,
    StepDropped,
    Validated,
)

STEPS_SHOWN = 20  # the loss beside the bar is their mean: one step's is noisy


def show(events: Iterator[Event], verb: str, talk: Talk) -> Path | None:
    """Show the events of a run as they come; return the exported model if it came to its end."""
    start = next(events)
    assert isinstance(start, Started), "a run tells first how it starts"
    talk.say(f"training on {start.device}, attention {start.attention}")
    talk.detail(f"attention {start.attention}: {start.attention_reason}")
    if start.resumed_from is not None:
        talk.say(f"going on from {start.resumed_from}, {si(start.tokens)}tokens")
    if start.tokens >= start.end_tokens:
        talk.say("the run is complete")
    losses: deque[float] = deque(maxlen=STEPS_SHOWN)
    model = None
    with talk.progress(verb, start.end_tokens, "tok", start.tokens) as advance:
        for event in events:
            if isinstance(event, StepDone):
                losses.append(event.loss)
                show_step(event, fmean(losses), advance)
            elif isinstance(event, StepDropped):
                advance(event.step_tokens)
                talk.say(f"step {event.step} dropped: its loss or gradient is not finite")
            elif isinstance(event, Finished):
                model = event.model
            else:
                show_other(event, talk)
    return model


def show_step(event: StepDone, loss: float, advance: Advance) -> None:
    mfu = f", MFU {event.mfu:.0%}" if event.mfu is not None else ""
    now = f" ({event.loss:.3f} now)"
    advance(event.step_tokens, f"loss {loss:.3f}{now}{mfu}, step {event.step}")


def show_other(event: Event, talk: Talk) -> None:
    if isinstance(event, Validated):
        bits = "" if event.bits_per_byte is None else f", {event.bits_per_byte:.3f} bits per byte"
        talk.say(
            f"validation after step {event.step}: at most {event.loss:.3f} nats per token, "
            f"perplexity {event.perplexity:.4g}{bits}"
        )
    elif isinstance(event, Sampled) and event.is_plain:
        rows = event.answers // 2
        talk.say(f"step {event.step}: {rows} held-out rows continued and infilled (samples.jsonl)")
    elif isinstance(event, Sampled):
        talk.say(
            f"step {event.step}: {event.ended} of {event.answers} answers to held-out prompts end "
            "by themselves (samples.jsonl)"
        )
    elif isinstance(event, DecayBegan):
        talk.say(
            f"the learning rate falls from step {event.step} on ({event.reason}), "
            f"until {si(event.end_tokens)}tokens"
        )
    elif isinstance(event, Saved):
        talk.detail(f"saved {event.path}")
    elif isinstance(event, Noticed):
        talk.warn(event.sentence)
