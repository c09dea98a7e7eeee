"""Rows packed in portions are those that one process packs (law 1)."""

import random

import numpy as np
import pytest

from illada_core.data.pack.order import Sizes
from illada_core.data.pack.plan import PackSettings
from illada_core.data.pack.portions import pack_portion, portion_tokens, require_shards
from illada_core.data.pack.write import clear_packed, pack
from illada_core.data.portion import Portion
from illada_core.data.store.dataset import TokenDataset, open_packed
from illada_core.errors import DataError, UsageError

SIZES = Sizes(block_tokens=300, window_tokens=2_000)


def settings_of(mode, seed=3, shuffle=True):
    return PackSettings(64, mode, "document", shuffle, seed, holdout=0.2)


@pytest.fixture
def source(write_tokens):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 300, 120)
    return write_tokens([generator.integers(6, 300, n, np.uint32) for n in lengths], 300, shards=3)


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("mode", ["stream", "fit"])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_portions_make_the_bytes_of_one_run(source, tmp_path, mode, count):
    settings, folder = settings_of(mode), tmp_path / "rows"
    list(pack(source, tmp_path / "whole", settings, sizes=SIZES))
    order = random.Random(count).sample(range(count), count)
    done = 0
    for index in order:
        own = Portion(index, count)
        done += sum(pack_portion(source, folder, settings, own, sizes=SIZES))
    assert done == source.tokens
    assert not (folder / "manifest.json").exists()
    require_shards(source, folder, settings, SIZES)
    list(pack(source, folder, settings, sizes=SIZES))
    assert files_of(folder) == files_of(tmp_path / "whole")
    assert len(list((folder / "train").glob("shard-*"))) > 5
    assert sum(part.tokens for part in open_packed(folder)) == source.tokens


def test_portions_have_about_as_many_tokens(source):
    loads = [portion_tokens(source, settings_of("fit"), Portion(n, 3), SIZES) for n in range(3)]
    assert sum(loads) == source.tokens
    assert max(loads) - min(loads) < 2 * SIZES.window_tokens


def test_what_is_missing_is_named_and_what_is_damaged_is_found(source, tmp_path):
    settings, folder = settings_of("stream"), tmp_path / "rows"
    list(pack_portion(source, folder, settings, Portion(0, 2), sizes=SIZES))
    with pytest.raises(DataError, match=r"\d of \d+ shards are not finished, .*shard-\d{6}"):
        require_shards(source, folder, settings, SIZES)
    list(pack_portion(source, folder, settings, Portion(1, 2), sizes=SIZES))
    shard = min((folder / "train").glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"damaged shard: {shard}"):
        list(pack(source, folder, settings, sizes=SIZES))


def test_portions_of_other_settings_are_refused(source, tmp_path):
    folder = tmp_path / "rows"
    list(pack_portion(source, folder, settings_of("stream"), Portion(0, 2), sizes=SIZES))
    before = files_of(folder)
    for other in (settings_of("stream", seed=4), settings_of("fit")):
        with pytest.raises(UsageError, match="made with other settings"):
            list(pack_portion(source, folder, other, Portion(1, 2), sizes=SIZES))
        with pytest.raises(UsageError, match="made with other settings"):
            list(pack(source, folder, other, sizes=SIZES))
    assert {name: data for name, data in files_of(folder).items() if name in before} == before


def test_two_never_write_one_shard_and_nobody_clears_it_meanwhile(source, tmp_path):
    settings, folder = settings_of("fit"), tmp_path / "rows"
    first = pack_portion(source, folder, settings, Portion(0, 1), sizes=SIZES)
    next(first)
    for work in (
        lambda: list(pack_portion(source, folder, settings, Portion(0, 1), sizes=SIZES)),
        lambda: list(pack(source, folder, settings, sizes=SIZES)),
        lambda: clear_packed(folder),
    ):
        with pytest.raises(DataError, match="another run is writing"):
            work()
    first.close()
    clear_packed(folder)
    assert list(folder.rglob("shard-*")) == []


def test_a_portion_is_counted_and_packed_by_one_look_at_the_indexes(source, tmp_path, monkeypatch):
    """Each of n processes plans for all shards: what that costs, n times, is not packing."""
    looks = []
    indexes = TokenDataset.indexes
    monkeypatch.setattr(TokenDataset, "indexes", lambda own: looks.append(own) or indexes(own))
    settings, own = settings_of("stream"), Portion(1, 3)
    assert portion_tokens(source, settings, own, SIZES) > 0
    list(pack_portion(source, tmp_path / "rows", settings, own, sizes=SIZES))
    assert looks == [source]
