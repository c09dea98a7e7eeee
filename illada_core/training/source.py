"""Where the micro-batches of a run come from: rows of packed datasets, hidden while it computes.

The loop takes any source: a function of the first step that yields, for each step from there on,
this rank's micro-batches on the host. All ranks must be given as many, phantoms where one has less.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import TypeAlias

from illada_core.data.batches import Share, read_batch, read_steps
from illada_core.data.mixture import Mixture
from illada_core.data.store.dataset import TokenDataset
from illada_core.diffusion.corruption import Corrupted, Corruption, corrupt, phantom

Source: TypeAlias = Callable[[int], Generator[list[Corrupted]]]


def row_source(rows: TokenDataset | Mixture, rule: Corruption, share: Share) -> Source:
    """Return the source of one rank's rows, read and hidden in the read-ahead thread."""
    return partial(read_steps, share, make=partial(noisy_rows, rows, rule, share))


def noisy_rows(
    rows: TokenDataset | Mixture, rule: Corruption, share: Share, places: range
) -> Corrupted:
    """Read the rows at some places of a run and hide tokens of them; no rows are a phantom."""
    if not places:
        return phantom(rule)
    if isinstance(rows, Mixture):
        return corrupt(rows.read_batch(places), rule, share.rows_per_step, share.origin)
    batch = read_batch(rows, places, rule.seed)
    return corrupt(batch, rule, share.rows_per_step, share.origin)
