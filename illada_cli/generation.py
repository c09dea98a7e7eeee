"""How to generate: the options that generate and chat share, presets, and the rules they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from illada_cli.presets import load_preset
from illada_cli.serving import BATCH_TOKENS, choose_device
from illada_cli.ui import Talk
from illada_core.errors import UsageError

if TYPE_CHECKING:
    from illada_cli.serving import Checkpoint
    from illada_core.diffusion.rules import Rules
    from illada_core.diffusion.sampler import Sampler

LENGTH = "Length"
CHOICE = "Choice of tokens"
COMMITS = "Order of commits"

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", help="Settings by name (gsm8k-instruct) or TOML file.", rich_help_panel=LENGTH
    ),
]
Canvas = Annotated[
    Literal["variable", "fixed"] | None,
    typer.Option(
        "--canvas",
        help="Append blocks of masks until the text ends, or begin with all masks "
        "[default: variable].",
        rich_help_panel=LENGTH,
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", help="Most new tokens [default: 1024].", min=1, rich_help_panel=LENGTH
    ),
]
BlockLength = Annotated[
    int | None,
    typer.Option(
        "--block-length",
        help="Positions filled together [default: the model's, else 32].",
        min=1,
        rich_help_panel=LENGTH,
    ),
]
StepsPerBlock = Annotated[
    int | None,
    typer.Option(
        "--steps-per-block",
        help="Most steps a block may take [default: one for each token].",
        min=1,
        rich_help_panel=LENGTH,
    ),
]
StopText = Annotated[
    list[str] | None,
    typer.Option("--stop", help="A string that ends a text; repeatable.", rich_help_panel=LENGTH),
]
StopId = Annotated[
    list[int] | None,
    typer.Option("--stop-id", help="An id that ends a text; repeatable.", rich_help_panel=LENGTH),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="Of the draw; 0 takes the likeliest token [default: 0].",
        min=0.0,
        rich_help_panel=CHOICE,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        help="Draw only from this share of the probability [default: 1].",
        min=0.0,
        max=1.0,
        rich_help_panel=CHOICE,
    ),
]
EosGuard = Annotated[
    Literal["none", "logits", "confidence"] | None,
    typer.Option(
        "--eos-guard",
        help="Never choose what ends a text (logits), or commit it last (confidence) "
        "[default: none].",
        rich_help_panel=CHOICE,
    ),
]
EndThinking = Annotated[
    str | None,
    typer.Option(
        "--end-thinking",
        help="The text that ends thinking [default: </think>].",
        rich_help_panel=CHOICE,
    ),
]
EndThinkingBoost = Annotated[
    float | None,
    typer.Option(
        "--end-thinking-boost",
        help="Most that is added to its logit as the text grows [default: 0].",
        min=0.0,
        rich_help_panel=CHOICE,
    ),
]
EndThinkingPower = Annotated[
    float | None,
    typer.Option(
        "--end-thinking-power",
        help="How late the boost grows [default: 2].",
        min=0.0,
        rich_help_panel=CHOICE,
    ),
]
Remasking = Annotated[
    Literal["low-confidence", "random", "margin", "entropy"] | None,
    typer.Option(
        "--remasking",
        help="What decides which tokens stay masked [default: low-confidence].",
        rich_help_panel=COMMITS,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Commit also all tokens at least this probable, such as 0.9.",
        min=0.0,
        max=1.0,
        rich_help_panel=COMMITS,
    ),
]
Factor = Annotated[
    float | None,
    typer.Option(
        "--factor",
        help="Commit also the n likeliest while (n + 1)(1 - p) is below this, such as 1.",
        min=0.0,
        rich_help_panel=COMMITS,
    ),
]
EntropyBound = Annotated[
    float | None,
    typer.Option(
        "--entropy-bound",
        help="Commit also the surest while their joint entropy is at most this, such as 0.1.",
        min=0.0,
        rich_help_panel=COMMITS,
    ),
]

# What a preset may set, and the value where neither a preset nor an option does; None is a number
# that is not given.
DEFAULTS: Mapping[str, Any] = {
    "canvas": "variable",
    "max_new_tokens": 1024,
    "block_length": 0,  # the checkpoint's
    "steps_per_block": 0,
    "stop": [],
    "temperature": 0.0,
    "top_p": 1.0,
    "cfg": 0.0,
    "eos_guard": "none",
    "end_thinking": "</think>",
    "end_thinking_boost": 0.0,
    "end_thinking_power": 2.0,
    "remasking": "low-confidence",
    "threshold": None,
    "factor": None,
    "entropy_bound": None,
}
COMMIT_RULES: Mapping[str, Literal["threshold", "factor", "entropy-bound"]] = {
    "threshold": "threshold",
    "factor": "factor",
    "entropy_bound": "entropy-bound",
}


def settle(preset: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of DEFAULTS: options that were given, else the preset's, else these.

    Raises UsageError for an unknown preset or two commit rules at once.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    base = load_preset(preset, DEFAULTS) if preset else {}
    rules = [key for key in COMMIT_RULES if key in given]
    if len(rules) > 1:
        names = " and ".join(f"--{key.replace('_', '-')}" for key in rules)
        raise UsageError(f"{names} are two commit rules, and only one can decide")
    if "" in given.get("stop", ()):
        raise UsageError("--stop wants a string that is not empty")
    if rules:
        base = {key: value for key, value in base.items() if key not in COMMIT_RULES}
    return {**DEFAULTS, **base, **given}


def completed(settings: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Return settings with nothing left to the checkpoint's files."""
    return {**settings, "block_length": settings["block_length"] or checkpoint.block_length}


def rules_for(
    settings: Mapping[str, Any],
    checkpoint: Checkpoint,
    seed: int,
    stop_ids: Sequence[int],
    talk: Talk,
) -> Rules:
    """Return the sampler's rules for a checkpoint. Raises UsageError where they contradict."""
    from illada_core.diffusion.rules import Rules

    chosen = next((key for key in COMMIT_RULES if settings[key] is not None), None)
    boost = settings["end_thinking_boost"]
    if boost and checkpoint.tokenizer is None:
        talk.warn("without a tokenizer the end of thinking has no ids: its boost is off")
        boost = 0.0
    return Rules(
        mask_id=checkpoint.mask_id,
        vocab_size=checkpoint.tokenizer.vocab_size if checkpoint.tokenizer else None,
        eos_ids=checkpoint.end_ids,
        stop_ids=tuple(stop_ids),
        block_length=settings["block_length"],
        steps_per_block=settings["steps_per_block"] or None,
        remasking=settings["remasking"],
        commit_by=COMMIT_RULES[chosen] if chosen else "quota",
        bound=settings[chosen] if chosen else 0.0,
        temperature=settings["temperature"],
        top_p=settings["top_p"],
        cfg=settings["cfg"],
        seed=seed,
        eos_guard=settings["eos_guard"],
        guarded_ids=checkpoint.end_ids,
        thinking_end_ids=thinking_ids(settings["end_thinking"], checkpoint) if boost else (),
        thinking_boost=boost,
        thinking_power=settings["end_thinking_power"],
    )


def load_sampler(
    checkpoint: Checkpoint,
    rules: Rules,
    stops: Sequence[str],
    device: str,
    dtype: str,
    batch_tokens: int | None,
) -> Sampler:
    """Load the weights and return a sampler around them; `stops` are texts that end generation."""
    from illada_cli.answers import stop_finder
    from illada_core.diffusion.sampler import Sampler

    find_stop = stop_finder(checkpoint.needed_tokenizer(), stops) if stops else None
    device = choose_device(device)
    model = checkpoint.load(device, dtype)
    budget = batch_tokens or BATCH_TOKENS["cpu" if device == "cpu" else "cuda"]
    return Sampler(model.logits_at, rules, device, budget, find_stop)


def thinking_ids(text: str, checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the ids of the text that ends thinking: a token of its own, or several."""
    tokenizer = checkpoint.needed_tokenizer()
    if text in tokenizer.controls:
        return (tokenizer.controls[text],)
    return tuple(tokenizer.encode(text))
