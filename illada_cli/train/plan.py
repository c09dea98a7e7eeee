"""The plan of a run as lines of text."""

from __future__ import annotations

from illada_cli.ui import duration, plural, si, table
from illada_core.training.recipe.keys import Recipe
from illada_core.training.recipe.plan import Plan

MUCH_IDLE = 0.98  # devices are told to be idle where rows fill less of their time


def plan_lines(plan: Plan, recipe: Recipe, assumed: str) -> list[str]:
    """Lay out a plan; `assumed` says what was taken for granted in the absence of data."""
    rows = [
        *work_rows(plan, recipe),
        *device_rows(plan),
        *speed_rows(plan),
        *checkpoint_rows(plan, recipe),
    ]
    lines = ["Plan", *table(rows, right_align_from=2).splitlines()]
    if assumed:
        lines.append(f"Assumed: {assumed}.")
    return [*lines, *advice(plan, recipe)]


def work_rows(plan: Plan, recipe: Recipe) -> list[tuple[str, str]]:
    """Say what is to be computed."""
    step = f"{plural(recipe.batch.rows, 'row')} of {plan.tokens_per_step / recipe.batch.rows:.4g}"
    again = plan.recomputed_flops_per_token
    return [
        ("parameters", f"{plan.parameters:,}"),
        ("  without embedding and head", f"{plan.non_embedding_parameters:,}"),
        *([("  that learn", f"{plan.trained_parameters:,}")] if recipe.lora.rank else []),
        ("FLOPs per token", si(plan.flops_per_token)),
        *([("  computed again", si(again))] if again else []),
        ("tokens per step", f"{si(plan.tokens_per_step)} ({step})"),
        ("steps", f"{plan.steps:,}"),
        ("tokens", si(plan.total_tokens)),
        ("FLOPs", f"{plan.total_flops:.3g}"),
    ]


def device_rows(plan: Plan) -> list[tuple[str, str]]:
    """Say what each device holds and sends."""
    rows = []
    if plan.devices > 1:
        copies = f"{plan.copies} x {plan.shard}" if plan.copies > 1 else f"{plan.shard}"
        rows += [("mesh", f"{copies} devices (copies of the model x devices that share one)")]
    rows += [("memory of one device", gigabytes(sum(plan.memory_bytes.values())))]
    rows += [(f"  {part}", gigabytes(size)) for part, size in plan.memory_bytes.items()]
    if plan.traffic_bytes:
        rows += [("sent by one device in a step", gigabytes(sum(plan.traffic_bytes.values())))]
        rows += [(f"  {part}", gigabytes(size)) for part, size in plan.traffic_bytes.items()]
    return rows


def speed_rows(plan: Plan) -> list[tuple[str, str]]:
    """Say how fast the devices are, by the share of their peak and by what was measured."""
    rows = [
        (f"on {plan.devices} x {plan.device} at {plan.mfu:.0%} MFU", ""),
        ("  tokens per second", si(plan.tokens_per_second)),
        ("  of one device", si(plan.tokens_per_second / plan.devices)),
        ("  forwards of one device in a step", f"{plan.forwards.each}"),
        ("  time of a step", f"{plan.seconds_per_step:.3g} s"),
        ("  time", duration(plan.seconds)),
    ]
    if plan.fastest_tokens_per_second:
        days = plan.total_tokens / plan.fastest_tokens_per_second
        rows.append(("  least time, by its measured kernels", duration(days)))
    return rows


def checkpoint_rows(plan: Plan, recipe: Recipe) -> list[tuple[str, str]]:
    """Say how large a checkpoint is, and how long it takes in the background."""
    size, keys = plan.checkpoint_bytes, recipe.checkpoint
    writing = duration(size / (recipe.plan.write_gb_per_s * 1e9))
    rows = [
        (f"checkpoint, at {recipe.plan.write_gb_per_s:g} GB/s", f"{gigabytes(size)}, {writing}")
    ]
    often = [every for every in (keys.every_steps, keys.ephemeral_every_steps) if every]
    if often:
        rows.append(("  one every", duration(min(often) * plan.seconds_per_step)))
    return rows


def advice(plan: Plan, recipe: Recipe) -> list[str]:
    """Say what does not fit, what stands idle, and what to change."""
    lines = []
    if not plan.fits:
        limit = f"It does not fit into one {plan.device} ({gigabytes(plan.device_memory_bytes)})"
        if plan.remedy:
            changes = " ".join(f"--set {change}" for change in plan.remedy)
            lines.append(f"{limit}: {changes} does.")
        else:
            lines.append(
                f"{limit}, whatever is recomputed and shared: take more or larger devices."
            )
    if plan.forwards.filled < MUCH_IDLE:
        full = plan.devices * plan.forwards.most_rows
        fewer = full - plan.devices
        others = f"{fewer} or {full} rows" if fewer else f"{full} rows"
        lines.append(
            f"{recipe.batch.rows} rows leave {1 - plan.forwards.filled:.0%} of the devices' time "
            f"unused: {others} (batch.rows) fill it, or a number of devices that divides them."
        )
    return lines


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
