"""Weights on disk: the layout of every family, read strictly and written atomically.

Nothing is guessed: every key of every file is accounted for before a weight is read, and pickle
files, which can run code, are refused. Tensors go one by one from the mapped file to their device
and dtype, so the host never holds more than the weights and one file. What else an exported folder
holds (config.json, the tokenizer, generation_config.json) is put beside them here.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from illada_core.decoding import shaped
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import (
    decoding,
    make_folder,
    new_folder,
    read_json,
    write_file,
    write_json,
    writing_file,
)
from illada_core.model.attention import choose_backend
from illada_core.model.config import ModelConfig, parameter_shapes
from illada_core.model.configfile import config_facts, read_config
from illada_core.model.families.family import Reading
from illada_core.model.families.table import TABLE
from illada_core.model.finding import CONFIG, GENERATION_FILE, find_model
from illada_core.model.layouts import doubled_head, stored_names
from illada_core.model.quantized import stored_numbers
from illada_core.model.stored import DTYPES, STORED_DTYPES, StoredTensor, find_tensors
from illada_core.model.transformer import Transformer
from illada_core.text.tokenizer_files import COMPANIONS, TOKENIZER_FILE, copy_tokenizer

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
SINGLE_FILE = "model.safetensors"
SAMPLED_NUMBERS = 64  # of a tensor, in the digest of a model
INDEX_FILE = "model.safetensors.index.json"
CARD_FILE = "README.md"
SHARD_BYTES = 5_000_000_000
NAMES_SHOWN = 3
ROWS_COMPARED = 4096


@dataclass(frozen=True)
class Export:
    """How a model is written, and what goes beside its weights.

    `layout` is the released family's, `dtype` that of the file, `tokenizer` a tokenizer.json or the
    folder that holds one, `generation` and `card` what generation_config.json and README.md say.
    """

    layout: str = "illada"
    tokenizer: Path | None = None
    dtype: str = "float32"
    shard_bytes: int = SHARD_BYTES
    generation: Mapping[str, Any] | None = None
    card: str | None = None


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str = "auto",
    compute_dtype: str = "auto",
    backend: str = "auto",
    attention: str | None = None,
    shift: bool | None = None,
) -> Transformer:
    """Load the model that `path` means: a folder of any layout, a run, a checkpoint, a hub id.

    `dtype` is what the parameters are kept in (`auto`: as stored), `compute_dtype` what the
    arithmetic runs in (`auto`: the same), `backend` the attention kernel. `attention` (full or
    causal) and `shift` (a row of logits speaks of the next token) hold against what the files say.
    Raises CheckpointError for anything missing, damaged, unknown or of another shape, UsageError
    for an unknown name.
    """
    folder = find_model(path)
    config = read_config(folder, Reading(attention, shift))
    stored = find_weights(folder, config)
    kept = named_dtype(dtype, auto=STORED_DTYPES[stored["embedding.weight"].dtype])
    compute = named_dtype(compute_dtype, auto=str(kept).removeprefix("torch."))
    device = torch.device(device)
    with torch.device("meta"):
        name, _ = choose_backend(device, compute, backend, config.head_size, config.is_causal)
        model = Transformer(config, compute, name)
    model.load_state_dict(read_weights(stored, device, kept), assign=True)
    return model


def named_dtype(name: str, auto: str = "float32") -> torch.dtype:
    """Return the dtype called `name`; `auto` says which one "auto" is."""
    try:
        return DTYPES[auto if name == "auto" else name]
    except KeyError:
        raise UsageError(f"unknown dtype {name!r}", hint=f"one of {', '.join(DTYPES)}") from None


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that make up a model: one, or the shards of its index."""
    found = {path.name for path in folder.glob("model*.safetensors")}
    if odd := [name for name in found if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder / odd[0]} cannot be read: it is not a file")
    if (folder / INDEX_FILE).exists():
        index = read_json(folder / INDEX_FILE, CheckpointError).get("weight_map")
        with decoding(folder / INDEX_FILE, CheckpointError, fault="is no index of weights"):
            file_of = shaped(index, dict[str, str], "weight_map")
        if absent := set(file_of.values()) - found:
            raise CheckpointError(f"{folder} lacks {name_some(absent)}, named by its index")
        if strays := found - set(file_of.values()):
            raise CheckpointError(
                f"{folder} holds {name_some(strays)}, which its index does not name"
            )
    if not found:
        pickles = {path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES}
        if pickles:
            raise CheckpointError(
                f"{folder} holds its weights as pickle ({name_some(pickles)}), which is not read",
                hint="a pickle file can run code: convert it to safetensors first",
            )
        raise CheckpointError(f"{folder} holds no {SINGLE_FILE} and no shards of one")
    return [folder / name for name in sorted(found)]


def name_some(names: Iterable[str]) -> str:
    """Name the first few in order, and count the rest."""
    ordered = [name if name.isprintable() else ascii(name) for name in sorted(names)]
    rest = len(ordered) - NAMES_SHOWN
    return ", ".join(ordered[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def find_weights(folder: Path, config: ModelConfig) -> dict[str, StoredTensor]:
    """Find every parameter in the files of a folder, by headers alone, and account for each key.

    A tied head that is stored twice must equal the embedding. Raises CheckpointError that names
    missing, unknown, duplicate and misshapen keys.
    """
    found, duplicate = find_tensors(weight_files(folder))
    names = stored_names(config, config.family)
    shapes = dict(zip(names.values(), parameter_shapes(config).values(), strict=True))
    copy = doubled_head(config, config.family)
    if copy is not None and copy in found:
        shapes[copy] = shapes[names["embedding.weight"]]
    faults = {
        "duplicate or torn": duplicate,
        "missing": shapes.keys() - found.keys(),
        "unknown": found.keys() - shapes.keys(),
        "misshapen": [
            f"{key}, {found[key].dtype} {list(found[key].shape)} for {list(shape)}"
            for key, shape in shapes.items()
            if key in found and (found[key].shape != shape or found[key].dtype not in STORED_DTYPES)
        ],
    }
    if any(faults.values()):
        counts = [
            f"{len(keys)} {name} ({name_some(keys)})" for name, keys in faults.items() if keys
        ]
        raise CheckpointError(
            f"the weights in {folder} do not fit its config.json: {'; '.join(counts)}"
        )
    if (
        copy is not None
        and copy in found
        and not same_tensor(found[copy], found[names["embedding.weight"]])
    ):
        raise CheckpointError(
            f"{folder}: {copy} differs from {names['embedding.weight']}, "
            "though config.json says they are one matrix"
        )
    return {ours: found[key] for ours, key in names.items()}


def same_tensor(one: StoredTensor, other: StoredTensor) -> bool:
    """Compare the bits of two stored matrices, a few rows at a time."""
    chunks = (
        slice(first, first + ROWS_COMPARED) for first in range(0, one.shape[0], ROWS_COMPARED)
    )
    return all(
        torch.equal(one.rows(rows).view(torch.uint8), other.rows(rows).view(torch.uint8))
        for rows in chunks
    )


def read_weights(
    stored: Mapping[str, StoredTensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Copy each tensor from its mapped file to `device` in `dtype`."""
    weights: dict[str, Tensor] = {}
    for ours, tensor in stored.items():
        weights[ours] = torch.empty(tensor.shape, dtype=dtype, device=device)
        weights[ours].copy_(tensor.rows(slice(None)))
    return weights


def save_model(
    model: Transformer,
    folder: str | Path,
    layout: str = "illada",
    tokenizer_folder: str | Path | None = None,
    dtype: str = "auto",
    shard_bytes: int = SHARD_BYTES,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as a released checkpoint of `layout` is laid out, complete or not at all.

    `tokenizer_folder` (or the tokenizer.json itself) is copied beside the weights, and `generation`
    is written to generation_config.json. An earlier export in `folder` is replaced; anything else
    there is a UsageError.
    """
    tokenizer = None if tokenizer_folder is None else Path(tokenizer_folder)
    export = Export(layout, tokenizer, dtype, shard_bytes, generation)
    weights = model.state_dict()
    as_is = str(weights["embedding.weight"].dtype).removeprefix("torch.")
    named = replace(export, dtype=as_is if dtype == "auto" else dtype)
    make_folder(Path(folder).absolute().parent)
    with writing_file(Path(folder)):
        save_weights(weights.__getitem__, model.config, folder, named)


def save_weights(
    weight_of: Callable[[str], Tensor], config: ModelConfig, folder: str | Path, export: Export
) -> None:
    """Write weights like `save_model`, asking for each by our name when it is written.

    They are asked for in the order of `exported_keys`, and may live on any device. Only those of
    one file are held at a time.
    """
    folder = Path(folder).absolute()
    refuse_foreign_files(folder)
    with new_folder(folder) as aside:
        describe_model(aside, config, export)
        write_shards(aside, weight_of, config, export)


def describe_model(folder: Path, config: ModelConfig, export: Export) -> None:
    """Write all that a model's folder holds but its weights."""
    write_json(folder / CONFIG, config_facts(config, export.layout, export.dtype))
    if export.generation is not None:
        write_json(folder / GENERATION_FILE, export.generation)
    if export.tokenizer is not None:
        copy_tokenizer(export.tokenizer, folder)
    if export.card is not None:
        write_file(folder / CARD_FILE, export.card.encode())


def exported_keys(config: ModelConfig, layout: str) -> dict[str, str]:
    """Return the keys of a layout in the order they are written, and our name of each.

    A tied head is stored twice where the layout is released so.
    """
    keys = {key: ours for ours, key in stored_names(config, layout).items()}
    copy = doubled_head(config, layout) if TABLE[layout].stores_tied_head else None
    return keys | ({copy: "embedding.weight"} if copy else {})


def write_shards(
    folder: Path, weight_of: Callable[[str], Tensor], config: ModelConfig, export: Export
) -> None:
    """Write weights in order as one file, or as shards of at most so many bytes and an index."""
    keys, shapes = exported_keys(config, export.layout), parameter_shapes(config)
    dtype = named_dtype(export.dtype)
    sizes = {key: prod(shapes[ours]) * dtype.itemsize for key, ours in keys.items()}
    shards: list[list[str]] = [[]]
    filled = 0
    for key, size in sizes.items():
        if shards[-1] and filled + size > export.shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(key)
        filled += size
    file_of: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = SINGLE_FILE
        if len(shards) > 1:
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        # A clone each: safetensors refuses tensors that share memory, as a tied head's do.
        tensors = {key: weight_of(keys[key]).detach().to("cpu", dtype, copy=True) for key in shard}
        write_tensors(tensors, folder / name)
        shutil.copymode(folder / CONFIG, folder / name)  # safetensors writes private files
        file_of |= dict.fromkeys(shard, name)
    if len(shards) > 1:
        total = {"total_size": sum(sizes.values())}
        write_json(folder / INDEX_FILE, {"metadata": total, "weight_map": file_of})


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write one safetensors file of tensors on the CPU. Raises OSError, as other writes do."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise CheckpointError(f"cannot write {path}: {error}") from None
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def refuse_foreign_files(folder: Path) -> None:
    """Raise UsageError where writing a model would delete something no export wrote."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder to write a model to")
    ours = {CONFIG, GENERATION_FILE, INDEX_FILE, TOKENIZER_FILE, *COMPANIONS}
    present = {path.name for path in folder.iterdir()}
    weights = {path.name for path in folder.glob("model*.safetensors")}
    if strays := present - weights - ours:
        raise UsageError(
            f"{folder} holds {name_some(strays)}, which an export would delete",
            hint="choose a new folder",
        )


def digest_of_weights(model: Transformer) -> str:
    """Return a hash of a sample of every parameter, by which weights are told apart."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        numbers = stored_numbers(parameter).flatten()[:SAMPLED_NUMBERS]
        digest.update(numbers.float().cpu().numpy().tobytes())
    return digest.hexdigest()
