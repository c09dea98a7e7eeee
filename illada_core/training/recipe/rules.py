"""What the keys of a recipe must obey beyond their types, one sentence each. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from illada_core.training.recipe.keys import Recipe

MOST_THREADS, MOST_SECONDS = 1024, 86_400
LIMITS = "must be finite and at least 0, a whole number below 2^63"
DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?")


def rules(recipe: Recipe, values: Mapping[str, Any]) -> list[tuple[bool, str]]:
    """List what a recipe must obey: (broken, sentence). `values` are all of its keys."""
    model, objective, batch = recipe.model, recipe.objective, recipe.batch
    optimizer, schedule, run = recipe.optimizer, recipe.schedule, recipe.run
    decays = schedule.decay != "none"
    return [
        *((True, f"{name} {LIMITS}") for name in wild_keys(values)),
        (
            not model.head_size and bool(model.heads) and bool(model.width % model.heads),
            "model.width is no multiple of model.heads: give model.head_size",
        ),
        (not 0 < objective.epsilon < 1, "objective.epsilon must lie between 0 and 1"),
        (not 0 < objective.cart_p < 1, "objective.cart_p must lie between 0 and 1"),
        (objective.split_probability > 1, "objective.split_probability must be at most 1"),
        (
            bool(recipe.data.path and recipe.data.mixture),
            "give one of data.path and data.mixture",
        ),
        (batch.rows < 1, "batch.rows must be at least 1"),
        (batch.micro_rows < 1, "batch.micro_rows must be at least 1"),
        (optimizer.beta1 >= 1 or optimizer.beta2 >= 1, "the optimizer's betas must be below 1"),
        (
            optimizer.keep_moments and (not model.ckpt or recipe.lora.rank > 0),
            "optimizer.keep_moments needs model.ckpt, and no adapters (lora.rank)",
        ),
        (
            (run.total_tokens > 0) == (run.epochs > 0),
            "give one of run.total_tokens and run.epochs",
        ),
        (run.threads > MOST_THREADS, f"run.threads must be at most {MOST_THREADS}"),
        (
            run.float8 and (run.compute_dtype != "bfloat16" or recipe.lora.rank > 0),
            "run.float8 needs run.compute_dtype bfloat16, and no adapters (lora.rank)",
        ),
        (run.max_bad_steps < 1, "run.max_bad_steps must be at least 1"),
        (
            not DEVICES.fullmatch(run.device),
            f'run.device must be auto, cpu, cuda or cuda:N, not "{run.device}"',
        ),
        (
            decays and (schedule.decay_start_tokens > 0) == (schedule.decay_share > 0),
            "give one of schedule.decay_start_tokens and schedule.decay_share",
        ),
        (schedule.decay_share > 1, "schedule.decay_share must be at most 1"),
        (
            schedule.anneal_tokens > 0 and (not model.adapt or run.compile),
            "schedule.anneal_tokens needs model.adapt, and layers that are not compiled",
        ),
        (
            schedule.plateau and not (decays and schedule.plateau_window_tokens),
            "schedule.plateau needs a decay and schedule.plateau_window_tokens",
        ),
        (schedule.plateau_windows < 1, "schedule.plateau_windows must be at least 1"),
        (recipe.validation.samples < 1, "validation.samples must be at least 1"),
        (recipe.generation.block_length < 1, "generation.block_length must be at least 1"),
        (recipe.generation.max_new_tokens < 1, "generation.max_new_tokens must be at least 1"),
        (recipe.checkpoint.keep_last < 1, "checkpoint.keep_last must be at least 1"),
        (not 0 < recipe.plan.mfu <= 1, "plan.mfu must lie between 0 and 1"),
        (
            not 1 <= recipe.parallel.timeout_s <= MOST_SECONDS,
            f"parallel.timeout_s must be at least 1 and at most {MOST_SECONDS}",
        ),
        (recipe.plan.devices < 1, "plan.devices must be at least 1"),
        (recipe.plan.write_gb_per_s < 1e-3, "plan.write_gb_per_s must be at least 0.001"),
    ]


def wild_keys(values: Mapping[str, Any]) -> list[str]:
    """Name the keys whose number is negative, infinite, not a number, or too large for 64 bits."""
    return [
        name
        for name, value in values.items()
        if isinstance(value, int | float)
        and not 0 <= value < (inf if isinstance(value, float) else 2**63)
    ]
