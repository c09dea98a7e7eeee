"""What write.py and portions.py do in a folder, at a URL: shards of rows are made here, put there.

`pack.json.partial` is there from the beginning and tells whose the rest is. Beside each shard that
is whole lies its mark, SHARD.json.partial. The manifests come last, and then the marks go.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from illada_core.data.pack.order import Sizes
from illada_core.data.pack.plan import SIZES, PackSettings, PartPlan, plan_parts, row_maker
from illada_core.data.pack.portions import window_tokens
from illada_core.data.pack.write import (
    describe_settings,
    finish_shard,
    has_manifest_of,
    matching_tokenizer,
    rows_manifest,
)
from illada_core.data.portion import WHOLE, Portion
from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.frames import Mapper
from illada_core.data.store.manifest import (
    TRAIN,
    VALIDATION,
    fingerprint_of,
    has_foreign_manifest,
    write_manifest,
    write_manifest_file,
)
from illada_core.data.store.outbox import Outbox
from illada_core.data.store.shards import SHARD_NAME, ShardEntry, shard_name
from illada_core.data.store.views import MANIFEST, keep_copy, pull
from illada_core.decoding import shaped
from illada_core.errors import DataError, UsageError
from illada_core.files import (
    PARTIAL,
    decoding,
    json_bytes,
    make_folder,
    parse_json,
    remove_folder,
    writing_folder,
)
from illada_core.text.tokenizer_files import TOKENIZER_FILE, companions, copy_tokenizer

BEGUN = f"pack.json{PARTIAL}"
MARK = f".json{PARTIAL}"
FRESH_HINT = "use --fresh to replace it, or another folder with -o"


@dataclass(frozen=True)
class Mark:
    """What a mark says: which job wrote a shard, and what it holds."""

    job: str
    shard: ShardEntry


def pack(
    source: TokenDataset,
    folder: Path,
    settings: PackSettings,
    over: Mapper = map,
    tokenizer: Path | None = None,
    sizes: Sizes = SIZES,
) -> Generator[int, None, None]:
    """Pack a dataset of documents to the URL that `folder` stands for; else as in write.py."""
    plans, outbox = plan_parts(source, settings, sizes), Outbox(folder)
    if is_finished(source, folder, settings, sizes):
        clear_marks(outbox)  # of a run that was killed at its very end
        return
    described = describe_settings(source, settings, sizes)
    file = matching_tokenizer(source, tokenizer)
    with writing_folder(outbox.folder):
        done = yield from deliver_shards(plans, outbox, described, WHOLE, over)
        parts = {}
        for plan in plans:
            name = plan.part.name
            entries = [done[name, number] for number in range(plan.windows.count)]
            make_folder((outbox / name).folder)
            manifest = rows_manifest(plan, described, entries)
            parts[name] = write_manifest((outbox / name).folder, manifest)
            (outbox / name).send(MANIFEST)
        if file is not None:
            copy_tokenizer(file, outbox.folder)
            for beside in (outbox.folder / TOKENIZER_FILE, *companions(outbox.folder)):
                outbox.send(str(beside.relative_to(outbox.folder)))
        fields = {"kind": "parts", "parts": parts, "settings": described}
        write_manifest_file(outbox.folder, fields)
        outbox.send(MANIFEST)
        clear_marks(outbox)
    remove_folder(outbox.folder)


def pack_portion(
    source: TokenDataset,
    folder: Path,
    settings: PackSettings,
    portion: Portion,
    over: Mapper = map,
    sizes: Sizes = SIZES,
) -> Generator[int, None, None]:
    """Put a portion of the shards of a packed dataset at a URL; else as in portions.py."""
    if is_finished(source, folder, settings, sizes):
        return
    described = describe_settings(source, settings, sizes)
    plans = plan_parts(source, settings, sizes)
    yield from deliver_shards(plans, Outbox(folder), described, portion, over)


def require_shards(
    source: TokenDataset, folder: Path, settings: PackSettings, sizes: Sizes = SIZES
) -> None:
    """Raise DataError unless all shards are at a URL, each with its mark and its size."""
    described = describe_settings(source, settings, sizes)
    plans = plan_parts(source, settings, sizes)
    found = marked_shards(plans, Outbox(folder), described)
    wanted = [(plan.part.name, number) for plan in plans for number in range(plan.windows.count)]
    if missing := [each for each in wanted if each not in found]:
        part, number = missing[0]
        first = folder / part / shard_name(number, source.vocab_size)
        raise DataError(
            f"{len(missing)} of {len(wanted)} shards are not finished, {first} among them",
            "run the parts again that did not end well, or leave --merge away to do what is left",
        )


def is_finished(
    source: TokenDataset, folder: Path, settings: PackSettings, sizes: Sizes = SIZES
) -> bool:
    """Tell whether these rows are at a URL; UsageError if others are."""
    pull(folder)
    return has_manifest_of(folder, describe_settings(source, settings, sizes))


def deliver_shards(
    plans: Sequence[PartPlan],
    outbox: Outbox,
    described: dict[str, Any],
    portion: Portion,
    over: Mapper,
) -> Generator[int, None, dict[tuple[str, int], ShardEntry]]:
    """Put the shards of a portion at a URL that are not there; yield counts of tokens.

    Returns the entries of all that are there then, by part and number.
    """
    begin(outbox, described)
    done = marked_shards(plans, outbox, described)
    shards = [(plan, number) for plan in plans for number in range(plan.windows.count)]
    makers = {}
    for each in portion.of([window_tokens(plan, number) for plan, number in shards]):
        plan, number = shards[each]
        part = plan.part.name
        if (part, number) in done:
            yield done[part, number].tokens
            continue
        if part not in makers:
            makers[part] = row_maker(plan)
        box, job = outbox / part, fingerprint_of({**described, "part": part})
        path = box.folder / shard_name(number, plan.source.vocab_size)
        entry = yield from finish_shard(plan, makers[part], number, path, job, over)
        box.send(path.name)
        box.write(path.name + MARK, json_bytes(asdict(Mark(job, entry))))
        keep_copy(path, entry)
        done[part, number] = entry
    return done


def begin(outbox: Outbox, described: dict[str, Any]) -> None:
    """Say at a URL whose rows are to be there; UsageError if anything else is."""
    job = {"job": fingerprint_of(described)}
    there = outbox.there()
    if BEGUN in there:
        data = outbox.read([BEGUN])[BEGUN]
        if parse_json(data, outbox.view / BEGUN) != job:
            raise UsageError(f"{outbox.view} was begun with other settings", FRESH_HINT)
        return
    strange = {*there, *(outbox / TRAIN).there(), *(outbox / VALIDATION).there()}
    if strange:
        raise UsageError(f"{outbox.view} is not empty, and no packed dataset", FRESH_HINT)
    outbox.write(BEGUN, json_bytes(job))


def marked_shards(
    plans: Sequence[PartPlan], outbox: Outbox, described: dict[str, Any]
) -> dict[tuple[str, int], ShardEntry]:
    """Return the entries of the shards that are at a URL whole, by part and number."""
    found = {}
    for plan in plans:
        part = plan.part.name
        box, job = outbox / part, fingerprint_of({**described, "part": part})
        there = box.there()
        names = [shard_name(number, plan.source.vocab_size) for number in range(plan.windows.count)]
        marks = box.read(name + MARK for name in names if name + MARK in there)
        for number, name in enumerate(names):
            if name + MARK not in marks:
                continue
            path = box.view / (name + MARK)
            with decoding(path, hint=FRESH_HINT):
                mark: Mark = shaped(parse_json(marks[name + MARK], path), Mark, "it")
            if mark.job != job:
                raise UsageError(f"{box.view} was made with other settings", FRESH_HINT)
            if box.holds(there, name, mark.shard.bytes):
                found[part, number] = mark.shard
    return found


def clear_marks(outbox: Outbox) -> None:
    """Remove the marks at a URL: the manifest stands."""
    for box in (outbox / TRAIN, outbox / VALIDATION):
        box.remove(sorted(name for name in box.there() if name.endswith(MARK)))
    if BEGUN in outbox.there():
        outbox.remove([BEGUN])


def clear_packed(folder: Path) -> None:
    """Remove a packed dataset at a URL, or what was begun of one; UsageError for anything else."""
    outbox = Outbox(folder)
    boxes = (outbox, outbox / TRAIN, outbox / VALIDATION)
    for box in boxes:
        pull(box.view)
    if any(has_foreign_manifest(box.view) for box in boxes):
        raise UsageError(f"{folder} is not a packed dataset", "name another folder with -o")
    there = outbox.there()
    if MANIFEST in there or BEGUN in there:
        if BEGUN not in there:  # from here on it is one that was begun, wherever this is ended
            outbox.write(BEGUN, json_bytes({"job": "to be removed"}))
        outbox.remove({MANIFEST} & set(there))
        for box in boxes[1:]:
            held = box.there()
            box.remove({MANIFEST} & set(held))
            box.remove(sorted(n for n in held if SHARD_NAME.fullmatch(n.removesuffix(MARK))))
        outbox.remove([BEGUN])
    remove_folder(outbox.folder)
