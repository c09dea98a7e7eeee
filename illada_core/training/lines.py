"""What a run has told so far, read back: metrics.jsonl and samples.jsonl. No torch.

metrics.jsonl has one object a line with a `kind`: step, dropped, validation, decay,
mixture, stretch, finished.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from illada_core.decoding import Count, decode_json, shaped
from illada_core.errors import CheckpointError
from illada_core.files import decoding, read_bytes
from illada_core.training import run_folder

# What every line must hold; `metrics.jsonl` also which kind of line it is.
STEP_LINE: dict[str, Any] = {"step": Count}
SAMPLE_LINE: dict[str, Any] = {
    **STEP_LINE,
    "prompt": str | None,
    "text": str | None,
    "suffix": str | None,
    "original": str | None,
}
METRICS_LINE: dict[str, Any] = {
    **STEP_LINE,
    "kind": str,
    "tokens": Count,
    "loss": float | None,
    "lr": float | None,
    "bits_per_byte": float | None,
    "loss_by_ratio": list[float | None] | None,
    "changed": dict[str, tuple[Any, Any]] | None,
}


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a run's metrics. Raises CheckpointError if one is damaged."""
    return read_lines(run / run_folder.METRICS, METRICS_LINE)


def read_lines(path: Path, kinds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the complete lines of a file; one cut short by a kill is left out.

    `kinds` are the types of what each line must hold. Raises CheckpointError if one is damaged.
    """
    lines = read_bytes(path, CheckpointError).split(b"\n")[:-1] if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        where = Path(f"{path}, line {number},")
        with decoding(where, CheckpointError, run_folder.DAMAGED_HINT):
            fields = shaped(decode_json(line), dict[str, Any], "the line")
            for name, kind in kinds.items():
                shaped(fields.get(name), kind, name)
            found.append(fields)
    return found
