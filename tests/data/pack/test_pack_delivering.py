"""Rows packed to a URL are the rows packed here, however often and wherever a run was ended."""

import shutil

import numpy as np
import pytest

from illada_core.data.pack import delivering
from illada_core.data.pack.order import Sizes
from illada_core.data.pack.plan import PackSettings
from illada_core.data.pack.write import pack
from illada_core.data.portion import Portion
from illada_core.data.store.dataset import open_packed
from illada_core.errors import DataError, UsageError
from illada_core.places import cache_root, path_of
from tests.data.store_in_memory import bucket_in_memory, files_in, killed_at

SIZES = Sizes(block_tokens=300, window_tokens=2_000)
FOLDER = "/bucket/rows"
URL = f"memory:/{FOLDER}"


def settings_of(seed=3):
    return PackSettings(64, "fit", "document", True, seed, holdout=0.3)


@pytest.fixture
def memory(tmp_path, monkeypatch):
    with bucket_in_memory(monkeypatch, tmp_path / "cache") as files:
        yield files


@pytest.fixture
def source(write_tokens, tokenizer_file):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 300, 40)
    return write_tokens([generator.integers(6, 300, n, np.uint32) for n in lengths], 300, shards=2)


@pytest.fixture
def reference(source, tmp_path):
    """The bytes of the rows that are packed here, by path."""
    here = tmp_path / "whole"
    list(pack(source, here, settings_of(), sizes=SIZES))
    return {str(p.relative_to(here)): p.read_bytes() for p in here.rglob("*") if p.is_file()}


def run(source, settings=None):
    return sum(delivering.pack(source, path_of(URL), settings or settings_of(), sizes=SIZES))


def part(source, index, count):
    own = Portion(index, count)
    return sum(delivering.pack_portion(source, path_of(URL), settings_of(), own, sizes=SIZES))


def test_rows_at_a_url_are_the_rows_made_here(source, reference, memory):
    assert len(reference) > 5
    assert run(source) == source.tokens
    assert files_in(memory, FOLDER) == reference
    assert run(source) == 0
    assert sum(each.tokens for each in open_packed(path_of(URL))) == source.tokens


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_run_killed_at_any_change_goes_on_as_if_never_killed(
    source, reference, memory, monkeypatch, is_bare
):
    number = 1
    while killed_at(number, monkeypatch, lambda: run(source)):
        held = set(files_in(memory, FOLDER))
        assert "manifest.json" not in held or held >= set(reference)
        if is_bare:
            shutil.rmtree(cache_root())
        run(source)
        assert files_in(memory, FOLDER) == reference, number
        memory.rm("/bucket", recursive=True)
        number += 1
    assert number > 12


def test_parts_and_a_merge_make_the_same(source, reference, memory):
    part(source, 1, 2)
    with pytest.raises(DataError, match=r"\d of \d+ shards are not finished, .*shard-\d{6}"):
        delivering.require_shards(source, path_of(URL), settings_of(), SIZES)
    shutil.rmtree(cache_root())
    part(source, 0, 2)
    delivering.require_shards(source, path_of(URL), settings_of(), SIZES)
    shutil.rmtree(cache_root())
    run(source)
    assert files_in(memory, FOLDER) == reference


def test_others_are_refused_and_left_alone(source, reference, memory, monkeypatch):
    memory.pipe(f"{FOLDER}/train/shard-000000.u16.zst", b"of somebody")
    with pytest.raises(UsageError, match="is not empty, and no packed dataset"):
        run(source)
    delivering.clear_packed(path_of(URL))
    assert files_in(memory, FOLDER) == {"train/shard-000000.u16.zst": b"of somebody"}
    memory.rm("/bucket", recursive=True)
    part(source, 0, 2)
    with pytest.raises(UsageError, match="was begun with other settings"):
        run(source, settings_of(seed=4))
    run(source)
    with pytest.raises(UsageError, match="was made with other settings: seed 3 instead of 4"):
        run(source, settings_of(seed=4))
    memory.pipe(f"{FOLDER}/notes.txt", b"of somebody")
    number = 1
    while killed_at(number, monkeypatch, lambda: delivering.clear_packed(path_of(URL))):
        number += 1
    assert files_in(memory, FOLDER) == {"notes.txt": b"of somebody"}
    memory.pipe(f"{FOLDER}/manifest.json", b"{}")
    with pytest.raises(UsageError, match="is not a packed dataset"):
        delivering.clear_packed(path_of(URL))
