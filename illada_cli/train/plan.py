"""The plan of a run as lines of text."""

from __future__ import annotations

from illada_cli.ui import duration, si, table
from illada_core.training.recipe.keys import Recipe
from illada_core.training.recipe.plan import Plan


def plan_lines(plan: Plan, recipe: Recipe, assumed: str) -> list[str]:
    """Lay out a plan; `assumed` says what was taken for granted in the absence of data."""
    step = f"{recipe.batch.rows} rows of {plan.tokens_per_step / recipe.batch.rows:.4g}"
    rows = [
        ("parameters", f"{plan.parameters:,}"),
        ("  without embedding and head", f"{plan.non_embedding_parameters:,}"),
        *([("  that learn", f"{plan.trained_parameters:,}")] if recipe.lora.rank else []),
        ("FLOPs per token", f"{si(plan.flops_per_token)}"),
        *(
            [("  computed again", si(plan.recomputed_flops_per_token))]
            if recipe.run.recompute == "full"
            else []
        ),
        ("tokens per step", f"{si(plan.tokens_per_step)} ({step})"),
        ("steps", f"{plan.steps:,}"),
        ("tokens", f"{si(plan.total_tokens)}"),
        ("FLOPs", f"{plan.total_flops:.3g}"),
    ]
    rows += [("devices that share a copy", f"{plan.shard}")] if plan.shard > 1 else []
    rows += [("memory of one device", gigabytes(sum(plan.memory_bytes.values())))]
    rows += [(f"  {part}", gigabytes(size)) for part, size in plan.memory_bytes.items()]
    rows += [
        (f"on {plan.devices} x {plan.device} at {plan.mfu:.0%} MFU", ""),
        ("  tokens per second", f"{si(plan.tokens_per_second)}"),
        ("  time", duration(plan.seconds)),
    ]
    lines = ["Plan", *table(rows, right_align_from=2).splitlines()]
    if assumed:
        lines.append(f"Assumed: {assumed}.")
    if sum(plan.memory_bytes.values()) > plan.device_memory_bytes:
        lines.append(
            f"It does not fit into one {plan.device} ({gigabytes(plan.device_memory_bytes)}): more "
            "devices to share a copy (parallel.shard) hold less of it each; run.recompute, shorter "
            "rows and a smaller batch.micro_rows keep fewer activations."
        )
    return lines


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
