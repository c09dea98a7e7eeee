"""From settings and a checkpoint to a sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from illada_cli.generate.options import COMMIT_RULES
from illada_cli.ui import Talk
from illada_core.errors import UsageError
from illada_core.inference.checkpoint import BATCH_TOKENS, choose_device

if TYPE_CHECKING:
    from illada_core.inference.checkpoint import Checkpoint
    from illada_core.inference.rules import Rules
    from illada_core.inference.sampler import Sampler


def completed(settings: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """Return settings with nothing left to the checkpoint's files."""
    return {**settings, "block_length": settings["block_length"] or checkpoint.block_length}


def rules_for(
    settings: Mapping[str, Any],
    checkpoint: Checkpoint,
    stop_ids: Sequence[int],
    talk: Talk,
) -> Rules:
    """Return the sampler's rules for a checkpoint. Raises UsageError where they contradict."""
    from illada_core.inference.rules import Rules

    chosen = next((key for key in COMMIT_RULES if settings[key] is not None), None)
    size = checkpoint.config.vocab_size
    if wrong := [number for number in stop_ids if not 0 <= number < size]:
        raise UsageError(f"--stop-id {wrong[0]} is outside the model's {size:,} ids")
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
        steps_per_block=settings["steps_per_block"],
        remasking=settings["remasking"],
        commit_by=COMMIT_RULES[chosen] if chosen else "quota",
        bound=settings[chosen] if chosen else 0.0,
        temperature=settings["temperature"],
        top_p=settings["top_p"],
        cfg=settings["cfg"],
        seed=settings["seed"],
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
    from illada_cli.generate.answers import stop_finder
    from illada_core.inference.sampler import Sampler

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
