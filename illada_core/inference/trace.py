"""Every commit of a generation as JSON Lines: who was written when, where, and how surely."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import IO, Any

from illada_core.files import naming_file, partial_path, publish, writing_file
from illada_core.inference.sampler import Commit
from illada_core.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Trace:
    """An open trace file."""

    file: IO[str]
    tokenizer: Tokenizer | None

    def write(self, commit: Commit) -> None:
        """Write what one step wrote for one prompt."""
        for fields in commit_fields(commit, self.tokenizer):
            self.file.write(json.dumps(fields) + "\n")


def commit_fields(commit: Commit, tokenizer: Tokenizer | None) -> Iterator[dict[str, Any]]:
    """Yield the object of each token that a step wrote; positions count from its canvas's start."""
    written = zip(
        commit.position_B.tolist(),
        commit.token_B.tolist(),
        commit.confidence_B.tolist(),
        strict=True,
    )
    for position, token, confidence in written:
        fields = {
            "prompt": commit.index,
            "step": commit.step,
            "position": position,
            "token": token,
            "confidence": confidence if isfinite(confidence) else None,
        }
        if not commit.exact:
            fields["exact"] = False
        if tokenizer is not None:
            fields["piece"] = tokenizer.piece(token)
        yield fields


@contextmanager
def open_trace(path: Path | None, tokenizer: Tokenizer | None) -> Iterator[Trace | None]:
    """Open a trace, if one is wanted, under a temporary name until it is closed in good order."""
    if path is None:
        yield None
        return
    aside = partial_path(path)
    with writing_file(path):
        try:
            with naming_file(path), open(aside, "w", encoding="utf-8") as file:
                yield Trace(file, tokenizer)
                publish(file, path)
        finally:
            aside.unlink(missing_ok=True)
