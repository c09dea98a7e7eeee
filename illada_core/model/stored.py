"""Tensors in safetensors files, found by headers alone and read in part or whole.

A file may hold whole tensors, or neighbouring rows of them: so torch.distributed.checkpoint writes
them, a file a rank, with the number of the first row in the header. Pickle files, which can run
code, are refused elsewhere (weights.py). A tensor is read without what else is in its files.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from illada_core.decoding import Count, decode_json, shaped
from illada_core.errors import CheckpointError
from illada_core.files import decoding

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STORED_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
SHARDING = "DCP_SHARDING_INFO"  # the entry of a header that says where the parts in its file begin


@dataclass(frozen=True)
class PartHeader:
    """What a header says of a part, by torch's name: its first row, then its first column."""

    saved_offsets: list[Count]


@dataclass(frozen=True)
class StoredPart:
    """Neighbouring rows of a tensor in a file, from the tensor's row `first` on."""

    path: Path
    first: int
    rows: int


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a folder as its headers describe it, its parts in order and without gaps."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[StoredPart, ...]

    def rows(self, wanted: slice) -> Tensor:
        """Return neighbouring rows of it, as they are stored."""
        first, end, _ = wanted.indices(self.shape[0])
        found = []
        for part in self.parts:
            rows = slice(max(first - part.first, 0), min(end - part.first, part.rows))
            if rows.start < rows.stop or first == end:
                with open_tensors(part.path) as tensors:
                    found.append(
                        tensors.get_slice(self.key)[rows.start : max(rows.stop, rows.start)]
                    )
        return found[0] if len(found) == 1 else torch.cat(found)


def find_tensors(paths: Iterable[Path]) -> tuple[dict[str, StoredTensor], list[str]]:
    """Find every tensor of some files by its key, and the keys whose parts are not one tensor."""
    parts: dict[str, list[StoredPart]] = {}
    kinds: dict[str, set[tuple[str, tuple[int, ...]]]] = {}
    for path in paths:
        with open_tensors(path) as tensors:
            firsts = first_rows(tensors.metadata() or {}, path)
            for key in tensors.keys():  # noqa: SIM118 (not a mapping)
                header = tensors.get_slice(key)
                rows, *rest = header.get_shape() or [1]
                parts.setdefault(key, []).append(StoredPart(path, firsts.get(key, 0), rows))
                kinds.setdefault(key, set()).add((header.get_dtype(), tuple(rest)))
    found, broken = {}, []
    for key, scattered in parts.items():
        ordered = sorted(scattered, key=lambda part: (part.first, part.rows))
        ends = list(accumulate(part.rows for part in ordered))
        if len(kinds[key]) > 1 or [part.first for part in ordered] != [0, *ends[:-1]]:
            broken.append(key)
        dtype, rest = next(iter(kinds[key]))
        found[key] = StoredTensor(key, dtype, (ends[-1], *rest), tuple(ordered))
    return found, broken


def first_rows(header: Mapping[str, str], path: Path) -> dict[str, int]:
    """Return the first row of each tensor that a file has a part of; whole ones are not in it."""
    with decoding(path, CheckpointError, fault="does not say which rows of its tensors it has"):
        parts = shaped(decode_json(header.get(SHARDING, "{}")), dict[str, PartHeader], SHARDING)
        for name, part in parts.items():
            if not part.saved_offsets or any(part.saved_offsets[1:]):
                raise ValueError(f"{name} is not in rows")
    return {name: part.saved_offsets[0] for name, part in parts.items()}


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Map a safetensors file, and say it in a sentence if it is damaged."""
    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or was not written to its end ({error})",
            hint="copy or download it again",
        ) from None
    except OSError as error:  # safetensors gives it no number
        raise CheckpointError(f"{path} cannot be read ({error})") from None
