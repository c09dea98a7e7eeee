"""A dataset made at a URL is the one made here, however often and wherever a run was ended."""

import random
import shutil

import pytest

from illada_core import remote
from illada_core.data.build import delivering, documents
from illada_core.data.build.events import PartDone, Report
from illada_core.data.build.job import Job
from illada_core.data.portion import Portion
from illada_core.data.sources.listing import list_sources
from illada_core.data.store.dataset import open_dataset
from illada_core.errors import DataError, UsageError
from illada_core.places import cache_root, path_of
from illada_core.text.tokenizer import load_tokenizer
from tests.data.store_in_memory import bucket_in_memory, files_in, killed_at
from tests.phrases import PHRASES

URL = "memory://bucket/tokens"
SHARD_TOKENS = 800


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    generator = random.Random(5)
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(5):
        text = "".join(generator.choices(PHRASES, k=60))
        (folder / f"{number:02}.txt").write_text(text, newline="")
    return folder


@pytest.fixture
def job(corpus, tokenizer_file):
    return Job(list_sources([str(corpus)]), load_tokenizer(tokenizer_file), "text", SHARD_TOKENS)


@pytest.fixture
def reference(job, tmp_path):
    """The bytes of the dataset that is made here, by name."""
    list(documents.tokenize_corpus(job, tmp_path / "here", 1))
    return {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}


@pytest.fixture
def memory(tmp_path, monkeypatch):
    with bucket_in_memory(monkeypatch, tmp_path / "cache") as files:
        yield files


def found(memory):
    return files_in(memory, "/bucket/tokens")


def run(job, work=delivering.tokenize_corpus, *arguments):
    delivering.make_room(job, path_of(URL), fresh=False)
    return list(work(job, *arguments, path_of(URL), 1))[-1]


def test_the_dataset_at_a_url_is_the_one_made_here(job, reference, memory, monkeypatch):
    report = run(job)
    assert isinstance(report, Report)
    assert found(memory) == reference
    assert not list((cache_root() / "outbox").rglob("shard*"))
    again = run(job)
    assert again.was_complete
    assert again.fingerprint == report.fingerprint
    monkeypatch.delattr(remote, "download")  # what was made here is a copy already
    dataset = open_dataset(path_of(URL))
    assert len(dataset.read(0, dataset.tokens)) == report.tokens


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_run_killed_at_any_change_goes_on_as_if_never_killed(
    job, reference, memory, monkeypatch, is_bare
):
    """Also on another machine, which has nothing of what the killed one had here."""
    number = 1
    while killed_at(number, monkeypatch, lambda: run(job)):
        held = set(found(memory))
        assert "manifest.json" not in held or held >= set(reference)
        if is_bare:
            shutil.rmtree(cache_root())
        run(job)
        assert found(memory) == reference, number
        assert open_dataset(path_of(URL)).tokens
        memory.rm("/bucket", recursive=True)
        number += 1
    assert number > 12
    assert found(memory) == reference


def test_parts_and_a_merge_make_the_same(job, reference, memory, monkeypatch):
    done = run(job, delivering.tokenize_part, Portion(1, 3))
    assert isinstance(done, PartDone)
    with pytest.raises(DataError, match=r"^\d of \d partitions are not finished: "):
        run(job, delivering.merge_parts)
    assert delivering.count_finished_shards(job, path_of(URL)) == done.shards
    killed_at(3, monkeypatch, lambda: run(job, delivering.tokenize_part, Portion(0, 3)))
    for part in (2, 0):
        shutil.rmtree(cache_root())  # each on a machine of its own
        run(job, delivering.tokenize_part, Portion(part, 3))
    shard = next(name for name in found(memory) if name.startswith("shard-"))
    whole = memory.cat(f"/bucket/tokens/{shard}")
    memory.pipe(f"/bucket/tokens/{shard}", whole[:-1])
    with pytest.raises(DataError, match=r"^1 of \d partitions are not finished: "):
        run(job, delivering.merge_parts)
    memory.pipe(f"/bucket/tokens/{shard}", whole)
    report = run(job, delivering.merge_parts)
    assert isinstance(report, Report)
    assert found(memory) == reference
    assert run(job, delivering.tokenize_part, Portion(0, 3)).was_complete


def test_nothing_of_others_is_touched(job, memory, corpus, tokenizer_file):
    memory.pipe("/bucket/tokens/notes.txt", b"of somebody")
    with pytest.raises(UsageError, match="is not empty, and no dataset"):
        run(job)
    with pytest.raises(UsageError, match="is not empty, and no dataset"):
        run(job, delivering.tokenize_part, Portion(0, 2))
    delivering.make_room(job, path_of(URL), fresh=True)
    assert found(memory) == {"notes.txt": b"of somebody"}
    memory.pipe("/bucket/tokens/manifest.json", b'{"format": "of somebody"}')
    with pytest.raises(UsageError, match="is not of a dataset"):
        delivering.make_room(job, path_of(URL), fresh=True)
    assert len(found(memory)) == 2


def test_other_settings_are_refused_until_fresh(job, corpus, tokenizer_file, memory, reference):
    other = Job(list_sources([str(corpus)]), load_tokenizer(tokenizer_file), "text", 500)
    run(other, delivering.tokenize_part, Portion(0, 2))
    with pytest.raises(UsageError, match="was begun from other inputs, or with other settings"):
        run(job)
    run(other)
    with pytest.raises(UsageError, match="was made from other inputs, or with other settings"):
        run(job)
    memory.pipe("/bucket/tokens/notes.txt", b"of somebody")
    delivering.make_room(job, path_of(URL), fresh=True)
    left = found(memory)
    assert not [name for name in left if name.startswith("shard-")]
    assert left.pop("notes.txt") == b"of somebody"
    memory.rm("/bucket/tokens/notes.txt")
    run(job)
    assert found(memory) == reference


def test_a_run_that_was_stopped_keeps_what_it_finished(job, reference, memory):
    steps = iter([False, False, True, True])
    events = list(delivering.tokenize_corpus(job, path_of(URL), 1, should_stop=lambda: next(steps)))
    assert not [event for event in events if isinstance(event, Report)]
    assert "manifest.json" not in found(memory)
    assert run(job).resumed_shards > 0
    assert found(memory) == reference
