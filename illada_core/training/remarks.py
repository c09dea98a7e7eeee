"""What a person should know of the data of a run before it begins, a sentence each."""

from collections.abc import Sequence

from illada_core.data.store.dataset import TokenDataset
from illada_core.data.store.views import LIMIT, limit_bytes
from illada_core.training.recipe.keys import ValidationKeys


def room_remarks(sources: Sequence[TokenDataset]) -> list[str]:
    """Say so if datasets at URLs are larger than the cache that their shards are read through."""
    far = [source for source in sources if source.url]
    size = sum(shard.bytes for source in far for shard in source.manifest.shards)
    if size <= limit_bytes():
        return []
    return [
        f"the data at {far[0].url} takes more room than copies may ({size / 1e9:,.1f} GB): "
        f"shards will be fetched again and again, unless {LIMIT} is larger"
    ]


def few_rows(sources: Sequence[TokenDataset], rows_per_step: int) -> list[str]:
    """Say so if a step takes more rows than there are."""
    rows = sum(source.rows for source in sources)
    if rows >= rows_per_step:
        return []
    return [
        f"there are only {rows} rows, and a step takes {rows_per_step} (batch.rows): some twice"
    ]


def few_held_out(holdout: TokenDataset, keys: ValidationKeys) -> list[str]:
    """Say so if the bound is measured on fewer tokens than the recipe wants."""
    share = min(1.0, keys.rows / holdout.rows) if keys.rows else 1.0
    tokens = round(share * holdout.tokens)
    if tokens >= keys.least_tokens:
        return []
    return [
        f"the bound is measured on {tokens:_} held-out tokens only, fewer than "
        f"{keys.least_tokens:_} (validation.least_tokens): small differences in it mean little"
    ]
