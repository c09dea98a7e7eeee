"""Datasets at URLs are read as those here, through copies that are whole, true and bounded."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from illada_core import remote
from illada_core.data.store import views
from illada_core.data.store.dataset import open_dataset, open_parts
from illada_core.data.store.verify import describe, verify
from illada_core.errors import DataError, UsageError
from illada_core.places import cache_root, path_of, told, url_of, with_urls

VOCABULARY = 1000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ILLADA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAITS_S", (0.0,))


@pytest.fixture
def stored(write_tokens):
    """A dataset here of three shards, and the folder that stands for its copy in memory."""
    rng = np.random.default_rng(0)
    lengths = (900, 40, 3000, 5, 800, 60)
    documents = [
        np.append(rng.integers(6, VOCABULARY, length), 2).astype(np.uint32) for length in lengths
    ]
    here = write_tokens(documents, VOCABULARY, shards=3)
    memory = fsspec.filesystem("memory")
    memory.put(str(here.folder), "/bucket/tokens", recursive=True)
    yield here, path_of("memory://bucket/tokens/")
    memory.rm("/bucket", recursive=True)


def shards_here():
    return sorted((cache_root() / "shards").iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a/b",
        "memory:///x",
        "file:///tmp/x",
        "https://host:80/a?b=c",
        "s3://b/../.%41 ä",
    ],
)
def test_a_url_and_its_folder_name_each_other(url):
    folder = path_of(url + "/")
    assert url_of(folder) == told(folder) == url
    assert url_of(folder / "manifest.json") == f"{url}/manifest.json"
    assert ".." not in folder.parts
    assert folder.is_relative_to(cache_root() / "urls")
    said = f"no dataset at {folder}: there is no manifest.json, nor {folder / 'train'}, or /else"
    assert (
        with_urls(said)
        == f"no dataset at {url}: there is no manifest.json, nor {url}/train, or /else"
    )


@pytest.mark.parametrize("path", ["a/b", "/a/b", "s3:/a", "a//b://c"])
def test_paths_are_no_urls(path):
    assert path_of(path) == Path(path)
    assert url_of(Path(path)) is None
    assert told(Path(path)) == str(Path(path))


def test_a_dataset_at_a_url_is_the_one_here(stored):
    here, folder = stored
    there = open_dataset(folder)
    assert there.fingerprint == here.fingerprint
    assert (there.read(0, there.tokens) == here.read(0, here.tokens)).all()
    assert describe(there) == describe(here)
    assert not [
        step.problem for step in verify(open_parts(folder, anew=True)["documents"]) if step.problem
    ]
    assert len(shards_here()) == 3


def test_shards_are_fetched_once_and_only_when_needed(stored, monkeypatch):
    fetched = []
    download = remote.download
    monkeypatch.setattr(
        remote, "download", lambda url, file: fetched.append(url) or download(url, file)
    )
    _, folder = stored
    dataset = open_dataset(folder)
    assert fetched == []
    dataset.read(0, 10)
    open_dataset(folder).read(0, 20)
    assert fetched == ["memory://bucket/tokens/shard-000000.u16.zst"]
    with ThreadPoolExecutor(8) as pool:  # as several processes, each with a dataset of its own
        read = list(pool.map(lambda _: open_dataset(folder).read(0, dataset.tokens), range(8)))
    assert all((each == read[0]).all() for each in read)
    assert len(fetched) == 3


def test_another_dataset_at_the_same_url_is_never_mixed_with_copies(stored, write_tokens, tmp_path):
    _, folder = stored
    open_dataset(folder).read(0, 10)
    other = write_tokens([np.full(4745, 7, np.uint32)], VOCABULARY, 1, tmp_path / "other")
    memory = fsspec.filesystem("memory")
    memory.rm("/bucket", recursive=True)
    memory.put(str(other.folder), "/bucket/tokens", recursive=True)
    assert (open_dataset(folder).read(0, 4745) == 7).all()


def test_what_is_damaged_at_the_url_is_told(stored):
    _, folder = stored
    dataset = open_dataset(folder)
    memory = fsspec.filesystem("memory")
    path = "/bucket/tokens/shard-000001.u16.zst"
    data = bytearray(memory.cat(path))
    data[40] ^= 1
    memory.pipe(path, bytes(data))
    with pytest.raises(DataError, match=r"^damaged shard: memory://bucket/tokens/shard-000001.u16"):
        dataset.read(0, dataset.tokens)
    assert len(shards_here()) == 1
    memory.pipe(path, bytes(data[:-1]))
    with pytest.raises(DataError, match=r"promises \d+$"):
        open_dataset(folder)
    memory.rm(path)
    with pytest.raises(DataError, match=r"is missing$"):
        open_dataset(folder)
    memory.rm("/bucket/tokens/manifest.json")
    with pytest.raises(DataError, match=r"there is no manifest.json$"):
        open_dataset(folder)


def test_a_check_believes_no_copy(stored):
    _, folder = stored
    open_dataset(folder).read(0, 1)
    memory = fsspec.filesystem("memory")
    path = "/bucket/tokens/shard-000000.u16.zst"
    data = bytearray(memory.cat(path))
    data[40] ^= 1
    memory.pipe(path, bytes(data))
    found = [step.problem for step in verify(open_parts(folder, anew=True)["documents"])]
    assert sum("shard-000000.u16.zst: its sha256" in (problem or "") for problem in found) == 1


def test_copies_take_no_more_room_than_they_may(stored, monkeypatch):
    here, folder = stored
    sizes = [shard.bytes for shard in here.manifest.shards]
    monkeypatch.setenv("ILLADA_CACHE_GB", str((sizes[1] + sizes[2]) / 1e9))
    dataset = open_dataset(folder)
    for shard in (0, 1):
        dataset.shard(shard)
    (cache_root() / "shards" / "dead.zst.partial").write_bytes(b"of a killed process")
    (cache_root() / "shards" / ".dead.zst.illada-lock").touch()
    dataset.shard(2)
    kept = {entry.sha256 for entry in here.manifest.shards[1:]}
    assert {path.name.removesuffix(".zst") for path in shards_here()} == kept
    # What is open is read on though its copy has gone, and what is needed again comes again.
    assert (dataset.read(0, 800) == here.read(0, 800)).all()
    assert (open_dataset(folder).read(0, 800) == here.read(0, 800)).all()


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(given, monkeypatch):
    monkeypatch.setenv("ILLADA_CACHE_GB", given)
    with pytest.raises(UsageError, match="ILLADA_CACHE_GB wants a number of gigabytes"):
        views.limit_bytes()


def test_a_manifest_cannot_name_files_elsewhere(stored):
    here, _ = stored
    (entry, *_) = here.manifest.shards
    for name in ("../../../etc/passwd", "", "A" * 64):
        wrong = views.ShardEntry(**{**vars(entry), "sha256": name})
        with pytest.raises(DataError), views.copy_of("memory://bucket/tokens/x", wrong):
            pass


def test_small_files_are_those_at_the_url(stored):
    _, folder = stored
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/tokens/tokenizer.json", b"{}")
    memory.pipe("/bucket/tokens/additional_chat_templates/a.jinja", b"text")
    open_dataset(folder)
    assert (folder / "tokenizer.json").read_bytes() == b"{}"
    assert (folder / "additional_chat_templates/a.jinja").read_bytes() == b"text"
    memory.rm("/bucket/tokens/tokenizer.json")
    open_dataset(folder)
    assert not (folder / "tokenizer.json").exists()
    assert json.loads((folder / "manifest.json").read_text())["kind"] == "documents"
