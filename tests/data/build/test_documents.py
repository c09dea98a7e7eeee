"""A dataset holds every document once, and is the same however it was made (laws 1 and 2)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import zstandard

from illada_core.data.build.documents import tokenize_corpus
from illada_core.data.build.events import Headway, Report, Skipped
from illada_core.data.build.job import Job
from illada_core.data.build.journal import clear_earlier_run
from illada_core.data.sources.listing import list_sources
from illada_core.data.store.dataset import open_dataset
from illada_core.data.store.verify import verify
from illada_core.errors import DataError, UsageError
from illada_core.text.tokenizer import load_tokenizer
from tests.conftest import command_environment
from tests.phrases import PHRASES

SHARD_TOKENS = 2000
JOURNAL = "tokenize-000000.jsonl.partial"


def random_text(generator):
    return "".join(generator.choices([*PHRASES, "<[EOS]>", "<[MASK]>"], k=generator.randrange(12)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of all layouts with empty documents among them, and its documents in order."""
    generator = random.Random(0)
    folder = tmp_path_factory.mktemp("corpus")
    documents = {}
    for number in range(30):
        text = random_text(generator)
        (folder / f"{number:02}.txt").write_text(text, newline="")
        documents[number, 0] = text
    for number in range(30, 36):
        texts = [random_text(generator) for _ in range(generator.randrange(40))]
        data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        if number % 2:
            (folder / f"{number:02}.jsonl").write_bytes(data)
        else:
            (folder / f"{number:02}.jsonl.zst").write_bytes(zstandard.compress(data))
        documents |= {(number, record): text for record, text in enumerate(texts)}
    return folder, documents


def job_of(folder, tokenizer_file, engine="auto", **options):
    sources = list_sources([str(folder)])
    tokenizer = load_tokenizer(tokenizer_file, engine)
    return Job(sources, tokenizer, "text", **{"shard_tokens": SHARD_TOKENS, **options})


def report_of(events):
    return [event for event in events if isinstance(event, Report)][-1]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def reference(corpus, tokenizer_file, tmp_path_factory):
    """The dataset of one uninterrupted run with one worker, and its report."""
    folder = tmp_path_factory.mktemp("reference") / "tokens"
    report = report_of(tokenize_corpus(job_of(corpus[0], tokenizer_file), folder, 1))
    return folder, report


def test_every_document_is_there_once_in_order_with_one_eos(corpus, reference, tokenizer_file):
    documents = corpus[1]
    tokenizer = load_tokenizer(tokenizer_file, "tokenizers")
    dataset = open_dataset(reference[0])
    ends = np.concatenate(list(dataset.document_ends()))
    starts = [0, *ends[:-1]]
    found = [dataset.read(*place).tolist() for place in zip(starts, ends, strict=True)]
    kept = {place: text for place, text in documents.items() if text}
    assert found == [[*tokenizer.encode(text), 2] for text in kept.values()]
    places = [
        place
        for index in dataset.indexes()
        for place in zip(index.document_files, index.document_records, strict=True)
    ]
    assert places == list(kept)
    assert [step.problem for step in verify(dataset) if step.problem] == []


def test_the_report_and_the_manifest_count_right(corpus, reference):
    folder, documents = corpus
    report, dataset = reference[1], open_dataset(reference[0])
    texts = [text for text in documents.values() if text]
    assert report.documents == dataset.documents == len(texts)
    assert report.tokens == dataset.tokens
    assert report.text_bytes == sum(len(text.encode()) for text in texts)
    assert report.skipped == {"empty": len(documents) - len(texts)}
    assert [item.name for item in dataset.manifest.inputs] == sorted(os.listdir(folder))
    assert [item.bytes for item in dataset.manifest.inputs] == [
        (folder / item.name).stat().st_size for item in dataset.manifest.inputs
    ]


def test_a_shard_ends_with_the_document_that_fills_it_or_with_its_partition(reference):
    dataset = open_dataset(reference[0])
    shards = dataset.manifest.shards
    assert len(shards) > 5
    partitions = [shard.name.split("-")[1] for shard in shards]
    for number, index in enumerate(dataset.indexes()):
        before_last = int(index.document_ends[-2]) if len(index.document_ends) > 1 else 0
        assert before_last < SHARD_TOKENS
        if partitions[number : number + 1] == partitions[number + 1 : number + 2]:
            assert shards[number].tokens >= SHARD_TOKENS


def test_a_shard_ends_when_its_index_is_large_enough(
    corpus, reference, tokenizer_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("illada_core.data.build.series.SHARD_DOCUMENTS", 3)
    report_of(tokenize_corpus(job_of(corpus[0], tokenizer_file), tmp_path / "tokens", 2))
    dataset, expected = open_dataset(tmp_path / "tokens"), open_dataset(reference[0])
    assert {shard.documents for shard in dataset.manifest.shards[:-1]} <= {1, 2, 3}
    assert np.array_equal(dataset.read(0, dataset.tokens), expected.read(0, expected.tokens))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("chunk_bytes", [50, 3000])
@pytest.mark.parametrize("engine", ["tokenizers", "fastokens"])
def test_the_bytes_do_not_depend_on_workers_chunks_or_engine(
    corpus, reference, tokenizer_file, tmp_path, monkeypatch, workers, chunk_bytes, engine
):
    pytest.importorskip(engine)
    monkeypatch.setattr("illada_core.data.sources.reading.CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr("illada_core.data.sources.corpus.CHUNK_BYTES", chunk_bytes)
    job = job_of(corpus[0], tokenizer_file, engine)
    report_of(tokenize_corpus(job, tmp_path / "tokens", workers))
    assert files_of(tmp_path / "tokens") == files_of(reference[0])


def test_giant_documents_do_not_depend_on_how_they_are_read(
    corpus, reference, tokenizer_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("illada_core.data.sources.plain.WHOLE_BYTES", 100)
    monkeypatch.setattr("illada_core.data.sources.corpus.WHOLE_BYTES", 100)
    monkeypatch.setattr("illada_core.text.cutting.PIECE_CHARACTERS", 90)
    monkeypatch.setattr("illada_core.text.cutting.WINDOWS", (90,))
    report_of(tokenize_corpus(job_of(corpus[0], tokenizer_file), tmp_path / "tokens", 2))
    assert files_of(tmp_path / "tokens") == files_of(reference[0])


@pytest.mark.parametrize("seed", range(8))
def test_a_run_stopped_anywhere_goes_on_as_if_never_stopped(
    corpus, reference, tokenizer_file, tmp_path, monkeypatch, seed
):
    monkeypatch.setattr("illada_core.data.sources.corpus.CHUNK_BYTES", 500)
    generator = random.Random(seed)
    job, folder = job_of(corpus[0], tokenizer_file), tmp_path / "tokens"
    stops = 0
    while True:
        answers = [False] * generator.randrange(stops, stops + 4)
        events = list(tokenize_corpus(job, folder, 2, should_stop=partial(next, iter(answers), 1)))
        if isinstance(events[-1], Report):
            break
        stops += 1
        assert not list(folder.glob("shard-*.partial"))
        if generator.random() < 0.3:  # a line of the journal that was being written
            with open(folder / JOURNAL, "a") as journal:
                journal.write('{"position": [')
        elif generator.random() < 0.3:  # the journal was ahead of the shard
            max(folder.glob("shard-*"), default=tmp_path / "x").unlink(missing_ok=True)
    assert stops >= 3
    assert files_of(folder) == files_of(reference[0])
    report, expected = events[-1], reference[1]
    assert (report.documents, report.text_bytes) == (expected.documents, expected.text_bytes)
    assert report.skipped == expected.skipped


def test_a_run_killed_at_random_moments_goes_on_as_if_never_killed(
    corpus, reference, tokenizer_file, tmp_path
):
    generator = random.Random(1)
    arguments = ["tokenize", str(corpus[0]), "--tokenizer", str(tokenizer_file), "-o", "tokens"]
    command = [sys.executable, "-m", "illada_cli", *arguments, "--shard-tokens", str(SHARD_TOKENS)]
    kills = 0
    for attempt in range(12):
        process = subprocess.Popen(command, cwd=tmp_path, env=command_environment(), stderr=-1)
        if attempt < 8:
            deadline = time.monotonic() + 30
            journal = tmp_path / "tokens" / JOURNAL
            while process.poll() is None and time.monotonic() < deadline and not journal.exists():
                time.sleep(0.002)
            time.sleep(generator.random() * 0.1)
            process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    assert kills >= 3
    assert process.returncode == 0
    assert files_of(tmp_path / "tokens") == files_of(reference[0])


def test_a_complete_dataset_is_left_as_it_is(corpus, reference, tokenizer_file):
    before = files_of(reference[0])
    (report,) = tokenize_corpus(job_of(corpus[0], tokenizer_file), reference[0], 2)
    assert report.was_complete
    assert (report.tokens, report.fingerprint) == (reference[1].tokens, reference[1].fingerprint)
    assert files_of(reference[0]) == before


@pytest.mark.parametrize("change", ["shard_tokens", "input", "tokenizer"])
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_folder_of_other_settings_is_refused(tmp_path, tokenizer_file, change, is_complete):
    corpus, folder = tmp_path / "corpus", tmp_path / "tokens"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"{number}.txt").write_text("some text " * 1000)
    events = tokenize_corpus(
        job_of(corpus, tokenizer_file), folder, 1, should_stop=lambda: not is_complete
    )
    assert any(isinstance(event, Report) for event in events) == is_complete
    job = job_of(corpus, tokenizer_file)
    if change == "shard_tokens":
        job = job_of(corpus, tokenizer_file, shard_tokens=1)
    elif change == "input":
        (corpus / "1.txt").write_text("other text")
        job = job_of(corpus, tokenizer_file)
    else:
        content = json.loads(tokenizer_file.read_bytes())
        content["added_tokens"][4]["content"] = "<[OTHER]>"
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        job = job_of(corpus, tmp_path)
    before = files_of(folder)
    with pytest.raises(UsageError, match="other inputs, or with other settings"):
        list(tokenize_corpus(job, folder, 1))
    assert files_of(folder) == before


def test_a_complete_dataset_of_a_hub_dataset_is_left_as_it_is(tokenizer_file, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    job = Job(list_sources([f"hf:{tmp_path}/hub"]), load_tokenizer(tokenizer_file), "text")
    *_, first = tokenize_corpus(job, tmp_path / "tokens", 1)
    (second,) = tokenize_corpus(job, tmp_path / "tokens", 1)
    assert (second.was_complete, second.fingerprint) == (True, first.fingerprint)


def test_a_file_that_changed_in_place_is_noticed(tokenizer_file, tmp_path):
    (tmp_path / "corpus").mkdir()
    file = tmp_path / "corpus" / "a.txt"
    file.write_text("one text")
    job = job_of(tmp_path / "corpus", tokenizer_file)
    list(tokenize_corpus(job, tmp_path / "tokens", 1))
    later = time.time() + 10
    os.utime(file, (later, later))
    (report,) = tokenize_corpus(job, tmp_path / "tokens", 1)
    assert report.was_complete
    file.write_text("two text")
    os.utime(file, (later, later))
    with pytest.raises(UsageError, match=r"was made before a\.txt changed"):
        list(tokenize_corpus(job, tmp_path / "tokens", 1))


@pytest.mark.parametrize("data", [b"\xff\n", b"{\n", b"[]\n", b"{}\n"])
def test_a_damaged_journal_is_one_sentence(corpus, tokenizer_file, tmp_path, data):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / JOURNAL).write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        list(tokenize_corpus(job_of(corpus[0], tokenizer_file), tmp_path / "tokens", 1))


def test_a_journal_that_outlived_its_run_goes(corpus, reference, tokenizer_file):
    before = files_of(reference[0])
    (reference[0] / JOURNAL).write_text("")
    list(tokenize_corpus(job_of(corpus[0], tokenizer_file), reference[0], 1))
    assert files_of(reference[0]) == before


def test_standard_input_never_removes_the_work_of_others(tokenizer_file, tmp_path):
    corpus, folder = tmp_path / "corpus", tmp_path / "tokens"
    corpus.mkdir()
    for number in range(9):
        (corpus / f"{number}.jsonl").write_text('{"text": "some text"}\n' * 9)
    unfinished = job_of(corpus, tokenizer_file, shard_tokens=20)
    answers = iter([False] * 8)
    list(tokenize_corpus(unfinished, folder, 1, should_stop=lambda: next(answers, True)))
    before = files_of(folder)
    assert "shard-000000-0000.u16.zst" in before
    other = Job(list_sources(["-"]), load_tokenizer(tokenizer_file), "text")
    with pytest.raises(UsageError, match="other inputs"):
        list(tokenize_corpus(other, folder, 1))
    assert files_of(folder) == before


def test_a_folder_of_something_else_is_refused(corpus, tokenizer_file, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        list(tokenize_corpus(job_of(corpus[0], tokenizer_file), tmp_path, 1))
    assert files_of(tmp_path) == {"precious.txt": b"mine"}


def test_two_runs_never_write_one_folder(corpus, tokenizer_file, tmp_path):
    job = job_of(corpus[0], tokenizer_file)
    with closing(tokenize_corpus(job, tmp_path / "tokens", 1)) as first:
        next(first)
        with pytest.raises(DataError, match="another run is writing"):
            next(tokenize_corpus(job, tmp_path / "tokens", 1))
        with pytest.raises(DataError, match="another run is writing"):
            clear_earlier_run(tmp_path / "tokens")


def test_a_document_that_cannot_be_used_stops_or_is_counted(tokenizer_file, tmp_path):
    corpus, folder = tmp_path / "corpus", tmp_path / "tokens"
    corpus.mkdir()
    (corpus / "a.txt").write_bytes(b"binary \0")
    (corpus / "b.jsonl").write_text('{"text": "good"}\n{"txt": 1}\n{"text": ""}\n{"text": "x"}\n')
    job = job_of(corpus, tokenizer_file)
    with pytest.raises(DataError, match=r"a\.txt:1: binary") as caught:
        list(tokenize_corpus(job, folder, 1))
    assert "--on-error skip" in caught.value.hint
    assert not (folder / "manifest.json").exists()
    events = list(tokenize_corpus(job, folder, 1, "skip"))
    texts = [event.text for event in events if isinstance(event, Skipped)]
    assert texts == ["a.txt:1: binary (it holds a zero byte)", 'b.jsonl:2: no key "text"']
    assert report_of(events).skipped == {"binary": 1, 'no key "text"': 1, "empty": 1}
    assert open_dataset(folder).documents == 2


def test_a_corpus_without_text_is_no_dataset(tokenizer_file, tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"no document has any text \(1 empty\)"):
        list(tokenize_corpus(job_of(tmp_path / "a.txt", tokenizer_file), tmp_path / "tokens", 1))
    assert not (tmp_path / "tokens" / "manifest.json").exists()


def test_progress_adds_up_to_the_corpus(corpus, tokenizer_file, tmp_path):
    job = job_of(corpus[0], tokenizer_file)
    events = list(tokenize_corpus(job, tmp_path / "tokens", 2))
    steps = [event for event in events if isinstance(event, Headway)]
    assert sum(step.source_bytes for step in steps) == sum(source.bytes for source in job.sources)
    assert sum(step.tokens for step in steps) == report_of(events).tokens
    assert sum(step.documents for step in steps) == report_of(events).documents


def test_the_tokenizer_travels_with_the_dataset(reference, tokenizer_file):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (reference[0] / name).read_bytes() == (tokenizer_file.parent / name).read_bytes()
