"""A packed dataset in portions: the shards of rows that fall to the i-th of n processes.

A shard is a function of the source, the settings and its number, so whoever writes it writes the
same bytes; `pack` (write.py) finds those that are there, and writes the manifests.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from illada_core.data.pack.order import Sizes
from illada_core.data.pack.plan import SIZES, PackSettings, PartPlan, plan_parts, row_maker
from illada_core.data.pack.write import describe_settings, finish_shard, is_finished
from illada_core.data.portion import Portion
from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.frames import Mapper
from illada_core.data.store.manifest import fingerprint_of
from illada_core.data.store.shards import ShardReader, shard_name
from illada_core.errors import DataError, UsageError
from illada_core.files import make_folder


def pack_portion(
    source: TokenDataset,
    folder: Path,
    settings: PackSettings,
    portion: Portion,
    over: Mapper = map,
    sizes: Sizes = SIZES,
) -> Generator[int, None, None]:
    """Write a portion of the shards of a packed dataset; yield counts of tokens as they come.

    Any number of processes may write others meanwhile. UsageError if the folder holds the work of
    other settings, DataError if another run is at work on a shard.
    """
    if is_finished(source, folder, settings, sizes):
        return
    described = describe_settings(source, settings, sizes)
    shards = [
        (plan, number)
        for plan in plan_parts(source, settings, sizes)
        for number in range(plan.windows.count)
    ]
    makers = {}
    for each in portion.of([window_tokens(plan, number) for plan, number in shards]):
        plan, number = shards[each]
        part = plan.part.name
        job = fingerprint_of({**described, "part": part})
        if part not in makers:
            makers[part] = row_maker(plan)
            make_folder(folder / part)
            refuse_other_shards(folder / part, plan, job)
        path = shard_path(folder, plan, number)
        yield from finish_shard(plan, makers[part], number, path, job, over)


def portion_tokens(
    source: TokenDataset, settings: PackSettings, portion: Portion, sizes: Sizes = SIZES
) -> int:
    """Return about how many tokens a portion has. Reads indexes only."""
    weights = [
        window_tokens(plan, number)
        for plan in plan_parts(source, settings, sizes)
        for number in range(plan.windows.count)
    ]
    return sum(weights[number] for number in portion.of(weights))


def require_shards(
    source: TokenDataset, folder: Path, settings: PackSettings, sizes: Sizes = SIZES
) -> None:
    """Raise DataError unless all shards are there, which `pack` then checks and names."""
    paths = [
        shard_path(folder, plan, number)
        for plan in plan_parts(source, settings, sizes)
        for number in range(plan.windows.count)
    ]
    if missing := [path for path in paths if not path.exists()]:
        raise DataError(
            f"{len(missing)} of {len(paths)} shards are not finished, {missing[0]} among them",
            "run the parts again that did not end well, or leave --merge away to do what is left",
        )


def window_tokens(plan: PartPlan, number: int) -> int:
    """Return how many tokens the window has from which a shard is made."""
    start, stop = plan.windows.token_starts[number : number + 2].tolist()
    return int(stop - start)


def shard_path(folder: Path, plan: PartPlan, number: int) -> Path:
    """Return the file of a shard of rows."""
    return folder / plan.part.name / shard_name(number, plan.source.vocab_size)


def refuse_other_shards(folder: Path, plan: PartPlan, job: str) -> None:
    """Raise UsageError if the first shard that is there was made with other settings."""
    path = min(folder.glob("shard-*.zst"), default=None)
    if path and ShardReader(path, plan.source.token_bytes).job != job:
        raise UsageError(f"{folder} was made with other settings", "name another folder with -o")
