"""A model folder written anew: in another layout or dtype, with a mask token, in other shards.

Tensors go one by one from the mapped files of the source to those of the copy, so no more than a
file is held. Tokenizer, template and generation defaults travel along.

Shapes: V vocabulary, C channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from illada_core.errors import CheckpointError, UsageError
from illada_core.files import read_json
from illada_core.model.adapters import Adapters, check_shapes, read_adapters
from illada_core.model.config import ModelConfig, parameter_count
from illada_core.model.configfile import config_facts, read_config
from illada_core.model.families.family import Reading
from illada_core.model.families.table import TABLE
from illada_core.model.finding import GENERATION_FILE, find_model
from illada_core.model.stored import STORED_DTYPES, StoredTensor
from illada_core.model.weights import (
    SHARD_BYTES,
    Export,
    find_weights,
    load_model,
    named_dtype,
    save_weights,
)
from illada_core.text.mask_token import add_mask_token
from illada_core.text.tokenizer import load_tokenizer
from illada_core.text.tokenizer_files import TOKENIZER_FILE

TABLES = ("embedding.weight", "output.weight")
PROBE_TOKENS = 48


@dataclass(frozen=True)
class Asked:
    """How a model is to be written; None is what the source says."""

    layout: str | None = None
    dtype: str = "auto"
    shard_bytes: int = SHARD_BYTES
    adds_mask: bool = False
    writes_card: bool = False
    reading: Reading = field(default_factory=Reading)
    adapters: Path | None = None


@dataclass(frozen=True)
class Conversion:
    """A source that was looked at, and what is written of it; `new_mask_id` where one is added."""

    source: Path
    before: ModelConfig
    after: ModelConfig
    stored: Mapping[str, StoredTensor]
    export: Export
    new_mask_id: int | None = None
    adapters: Adapters | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What is read and what will be written, for a person."""
        return {
            "source": str(self.source),
            "family": self.before.family,
            "layout": self.export.layout,
            "attention": self.after.attention,
            "shift": self.after.shift,
            "parameters": parameter_count(self.after),
            "vocab_size": self.after.vocab_size,
            "mask_id": self.after.mask_id,
            "new_mask_id": self.new_mask_id,
            "dtype": self.export.dtype,
            "bytes": parameter_count(self.after) * named_dtype(self.export.dtype).itemsize,
            "tokenizer": self.export.tokenizer is not None,
            "merged": len(self.adapters.factors) if self.adapters else None,
        }


def plan_conversion(source: str | Path, asked: Asked) -> Conversion:
    """Look at a model by its headers, and say what will be written of it.

    Raises CheckpointError for a source that cannot be read, UsageError for what cannot be written.
    """
    folder = find_model(source)
    before = read_config(folder, asked.reading)
    layout = asked.layout or before.family
    if layout not in TABLE:
        raise UsageError(f"there is no layout {layout}", f"known: {', '.join(TABLE)}")
    stored = find_weights(folder, before)
    dtype = asked.dtype
    if dtype == "auto":
        dtype = STORED_DTYPES[stored["embedding.weight"].dtype]
    named_dtype(dtype)
    tokenizer = folder / TOKENIZER_FILE if (folder / TOKENIZER_FILE).is_file() else None
    new_mask_id = free_mask_id(folder, before, tokenizer) if asked.adds_mask else None
    after = replace(before, family=layout)
    if new_mask_id is not None:
        size = max(before.vocab_size, new_mask_id + 1)
        after = replace(after, vocab_size=size, mask_id=new_mask_id)
    generation = read_json(folder / GENERATION_FILE) or None
    export = Export(layout, tokenizer, dtype, asked.shard_bytes, generation)
    config_facts(after, layout, dtype)  # what the layout cannot say is told before any work
    adapters = None
    if asked.adapters is not None:
        adapters = read_adapters(asked.adapters, before)
        check_shapes(adapters, stored, asked.adapters)
    conversion = Conversion(folder, before, after, stored, export, new_mask_id, adapters)
    if asked.writes_card:
        return replace(conversion, export=replace(export, card=card_of(conversion)))
    return conversion


def free_mask_id(folder: Path, config: ModelConfig, tokenizer: Path | None) -> int:
    """Return the first id behind the vocabulary: a spare row of the table, or a new one.

    Raises UsageError for a model that has a mask token.
    """
    known, first_free = config.mask_id, config.vocab_size
    if tokenizer is not None:
        loaded = load_tokenizer(tokenizer)
        known, first_free = (
            loaded.special.mask if known is None else known,
            loaded.vocab_size,
        )
    if known is not None:
        raise UsageError(f"{folder} has a mask token, the id {known}: --add-mask would add another")
    if first_free > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {first_free:,} ids, the model only {config.vocab_size:,}"
        )
    return first_free


def convert(conversion: Conversion, folder: Path) -> None:
    """Write the model, complete or not at all. Raises UsageError for a folder of other files."""
    export, mask_id = conversion.export, conversion.new_mask_id
    with TemporaryDirectory() as scratch:
        if export.tokenizer is not None and mask_id is not None:
            add_mask_token(export.tokenizer, Path(scratch), mask_id)
            export = replace(export, tokenizer=Path(scratch))
        save_weights(weights_of(conversion), conversion.after, folder, export)


def weights_of(conversion: Conversion) -> Callable[[str], Tensor]:
    """Return how to read each weight: adapters added, the mask's row of a table as the mean."""

    def weight_of(name: str) -> Tensor:
        stored_VC = conversion.stored[name].rows(slice(None))
        if conversion.adapters is not None:
            stored_VC = conversion.adapters.added(name, stored_VC)
        mask_id = conversion.new_mask_id
        if mask_id is None or name not in TABLES:
            return stored_VC
        mean_1C = stored_VC[:mask_id].float().mean(0, keepdim=True).to(stored_VC.dtype)
        return torch.cat((stored_VC[:mask_id], mean_1C, stored_VC[mask_id + 1 :]))

    return weight_of


@torch.inference_mode()
def differing_logits(conversion: Conversion, folder: Path) -> float:
    """Return by how much logits of the copy differ at most from those of the source, in its dtype.

    The mask's own column, if it was added, is left out. Ids are those of a fixed pattern.
    """
    known = conversion.new_mask_id or conversion.before.vocab_size
    rows_T = torch.arange(min(PROBE_TOKENS, conversion.before.max_length))
    ids_T = (rows_T * 7919 + 1) % known
    after = conversion.after
    logits = []
    for source in (conversion.source, folder):
        model = load_model(
            source,
            dtype=conversion.export.dtype,
            attention=after.attention,
            shift=after.shift,
        )
        logits.append(model.logits_at(ids_T, (len(ids_T),), rows_T)[:, :known].float())
        del model
    return float((logits[0] - logits[1]).abs().max())


def card_of(conversion: Conversion) -> str:
    """Return a model card: what the model is, where it comes from, how its numbers are read."""
    facts, after = conversion.facts, conversion.after
    speaks = "the next token" if after.shift else "its own token"
    mask = "none" if after.mask_id is None else str(after.mask_id)
    return f"""---
library_name: illada
base_model: {conversion.source.name}
---
# {conversion.source.name}, converted

{facts["parameters"]:,} parameters in the {facts["layout"]} layout, stored in {facts["dtype"]};
converted by `illada convert` from a {facts["family"]} model.

- Attention: {after.attention}.
- A row of logits speaks of {speaks}.
- Mask token: {mask}{" (added; not trained yet)" if conversion.new_mask_id is not None else ""}.
- Context: {after.max_length:,} tokens, vocabulary: {after.vocab_size:,} ids.

Licence and limits are those of the source.
"""
