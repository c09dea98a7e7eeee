"""What a run tells while it goes on; the loop yields these, the command line shows them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Started:
    """The run is ready: on which device, with which attention and why, from which step."""

    step: int
    tokens: int
    end_tokens: int
    device: str
    attention: str
    attention_reason: str
    resumed_from: Path | None


@dataclass(frozen=True)
class StepDone:
    """One optimizer step; `tokens` since the start, `mfu` None where the peak is not known."""

    step: int
    tokens: int
    step_tokens: int
    end_tokens: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_s: float
    mfu: float | None


@dataclass(frozen=True)
class StepDropped:
    """A step whose loss or gradient norm was not finite: the weights are as before it."""

    step: int
    tokens: int
    step_tokens: int
    loss: float
    bad_steps: int


@dataclass(frozen=True)
class DecayBegan:
    """The learning rate began to fall: by plan, plateau or request."""

    step: int
    tokens: int
    end_tokens: int
    reason: str


@dataclass(frozen=True)
class Validated:
    """The bound on held-out rows under fixed noise, in nats per token."""

    step: int
    tokens: int
    loss: float
    perplexity: float
    bits_per_byte: float | None


@dataclass(frozen=True)
class Sampled:
    """Held-out prompts were answered, or rows continued and infilled; some ended by themselves."""

    step: int
    answers: int
    ended: int
    is_plain: bool = False


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete."""

    step: int
    path: Path


@dataclass(frozen=True)
class Noticed:
    """Something that a person should know, in one sentence."""

    sentence: str


@dataclass(frozen=True)
class Finished:
    """The run has come to its end; `model` is the exported folder."""

    step: int
    tokens: int
    model: Path


Event = (
    Started | StepDone | StepDropped | DecayBegan | Validated | Sampled | Saved | Noticed | Finished
)
