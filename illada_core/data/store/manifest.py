"""The manifest of a dataset: manifest.json and what it says, written, read and checked.

It is written last and atomically, so nothing without a manifest is a dataset. It holds no times
and no absolute paths: the same text, tokenizer and settings give the same bytes. That of a packed
dataset names its parts, each of which has one of its own. docs/formats.md is the specification.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Literal

from illada_core.data.store.shards import DAMAGED_HINT, ShardEntry, first_misnamed
from illada_core.data.store.views import MANIFEST, pull
from illada_core.decoding import Count, shaped
from illada_core.errors import DataError
from illada_core.files import decoding, read_json, write_file
from illada_core.text.tokenizer_files import TokenizerRecord

FORMAT = "illada-dataset"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, FORMAT_VERSION)  # in 1 the shards of documents are numbered through
TRAIN, VALIDATION = "train", "validation"
# Settings of a chat dataset that tell what became of the examples; CHAT marks it as one.
CHAT, CUT_EXAMPLES, LEFT_OUT = "chat", "cut_examples", "left_out"

Kind = Literal["documents", "rows"]


@dataclass(frozen=True)
class InputFile:
    """One input: its name as the user would know it, never an absolute path."""

    name: str
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a dataset is made of. `kind` is "documents" or "rows".

    The file numbers in the shards' indexes count the `inputs`; `settings` is plain JSON.
    """

    kind: Kind
    tokenizer: TokenizerRecord
    inputs: tuple[InputFile, ...]
    settings: dict[str, Any]
    shards: tuple[ShardEntry, ...]


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Make a folder of finished shards a dataset, and return its fingerprint."""
    totals = {
        part: sum(getattr(shard, part) for shard in manifest.shards)
        for part in ("tokens", "documents", "segments", "rows")
    }
    fields = {
        "kind": manifest.kind,
        **totals,
        "tokenizer": asdict(manifest.tokenizer),
        "settings": manifest.settings,
        "shards": [vars(shard) for shard in manifest.shards],
        "inputs": [vars(item) for item in manifest.inputs],
    }
    return write_manifest_file(folder, fields)


def write_manifest_file(folder: Path, fields: dict[str, Any]) -> str:
    """Write manifest.json atomically, with the format's version and a fingerprint over all."""
    described = {"format": FORMAT, "version": FORMAT_VERSION, **fields}
    fingerprint = fingerprint_of(described)
    text = json_text({**described, "fingerprint": fingerprint})
    write_file(folder / MANIFEST, text.encode())
    return fingerprint


def fingerprint_of(value: object) -> str:
    """Return the sha256 of a value's canonical JSON: the name of a job or of a manifest."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def json_text(fields: dict[str, Any]) -> str:
    """Write JSON for people and diffs: a line for each key, and for each item of a list.

    Twenty times faster than an indented dump, which matters for lists of a million inputs.
    """
    line = json.JSONEncoder(ensure_ascii=False).encode

    def block(value: Any) -> str:
        if not isinstance(value, list) or not value:
            return line(value)
        return "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"

    return "{\n " + ",\n ".join(f"{line(k)}: {block(v)}" for k, v in fields.items()) + "\n}\n"


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Return the manifest of a dataset, and its fingerprint.

    Raises DataError where there is none, or one that names parts, or that cannot be believed.
    """
    fields = read_manifest_file(folder)
    if fields.get("kind") == "parts":
        parts = " and ".join(str(folder / part) for part in parts_of(folder, fields))
        raise DataError(f"{folder} is a folder of datasets", f"name one of them: {parts}")
    with decoding(folder / MANIFEST, hint=DAMAGED_HINT, fault="lacks what a manifest says"):
        manifest = manifest_of(fields)
    names = [shard.name for shard in manifest.shards]
    wrong = first_misnamed(names, manifest.tokenizer.vocab_size)
    if wrong is not None:
        raise DataError(f"{folder / MANIFEST} names {wrong!r} as a shard", DAMAGED_HINT)
    return manifest, fields["fingerprint"]


def read_manifest_file(folder: Path) -> dict[str, Any]:
    """Return the fields of manifest.json, its format, version and fingerprint checked."""
    pull(folder)
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(f"no dataset at {folder}: there is no {MANIFEST}", missing_hint(folder))
    fields = read_json(path, hint=DAMAGED_HINT)
    if fields.get("format") != FORMAT:
        raise DataError(f"{path} is not the manifest of a dataset")
    if fields.get("version") not in READABLE_VERSIONS:
        raise DataError(
            f"{folder} has format version {fields.get('version')}, "
            f"and this illada reads {' and '.join(map(str, READABLE_VERSIONS))}",
            "make the dataset again, or use the version of illada that made it",
        )
    described = {name: value for name, value in fields.items() if name != "fingerprint"}
    if fields.get("fingerprint") != fingerprint_of(described):
        raise DataError(f"{path} was changed: its fingerprint is wrong", DAMAGED_HINT)
    return fields


def missing_hint(folder: Path) -> str:
    """Say what may have happened to a folder without a manifest."""
    if any(folder.glob("shard-*")):
        return "an earlier run was interrupted: run the same command again to finish it"
    return "illada tokenize and illada pack make datasets"


def manifest_of(fields: dict[str, Any]) -> Manifest:
    """Build a Manifest from the JSON fields that are not of the file but of the dataset.

    Raises ValueError for any other shape, and for what contradicts itself.
    """
    names = [item.name for item in dataclass_fields(Manifest)]
    manifest = shaped({name: fields[name] for name in names if name in fields}, Manifest)
    size = manifest.tokenizer.vocab_size
    for name, number in vars(manifest.tokenizer.special).items():
        if number is not None and not 0 <= number < size:
            raise ValueError(f"{name} is {number} in a vocabulary of {size}")
    for part in ("tokens", "documents", "segments", "rows"):
        total = sum(vars(shard)[part] for shard in manifest.shards)
        if fields.get(part) != total:
            said = fields.get(part)
            raise ValueError(f"{said} {part} are said to be, and the shards hold {total}")
    return manifest


def parts_of(folder: Path, fields: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprint of each part that a manifest names. Raises DataError."""
    with decoding(folder / MANIFEST, hint=DAMAGED_HINT, fault="names parts that there are not"):
        parts: dict[str, str] = shaped(fields.get("parts"), dict[str, str], "parts")
        if TRAIN not in parts or parts.keys() - {TRAIN, VALIDATION}:
            raise ValueError(f"{', '.join(parts) or 'none'}")
    return parts


def is_token_dataset(folder: Path) -> bool:
    """Tell whether a folder is a dataset, or what is left of one, and not a folder of text."""
    pull(folder)
    if any(folder.glob("shard-*.zst*")):
        return True
    try:
        return bool(read_json(folder / MANIFEST).get("format") == FORMAT)
    except (OSError, DataError):
        return False


def has_foreign_manifest(folder: Path) -> bool:
    """Tell whether a folder has a manifest.json that no dataset of ours has."""
    try:
        return (folder / MANIFEST).exists() and read_json(folder / MANIFEST).get("format") != FORMAT
    except DataError:
        return True
