"""The trained model in the released layout, file by file: no rank ever holds it whole.

All ranks bring each weight together, rank 0 keeps those of one file at a time and writes them.
"""

from pathlib import Path

from torch import Tensor

from illada_core.model.transformer import Transformer
from illada_core.model.weights import Export, exported_keys, save_weights
from illada_core.training.lora import merged_weight
from illada_core.training.parallel import Ranks, wait_for_all


def export_model(model: Transformer, folder: Path, export: Export, ranks: Ranks) -> None:
    """Write a model, adapters merged, complete or not at all; all ranks must ask for it."""

    def weight_of(name: str) -> Tensor:
        return merged_weight(model, name)

    if ranks.is_main:
        save_weights(weight_of, model.config, folder, export)
    else:
        for name in exported_keys(model.config, export.layout).values():
            weight_of(name)
    wait_for_all(ranks)
