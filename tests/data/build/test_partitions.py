"""Portions of a job make the bytes of one run, on however many machines (laws 1 and 2)."""

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from illada_core.data.build.documents import merge_parts, tokenize_corpus, tokenize_part
from illada_core.data.build.events import PartDone, Report
from illada_core.data.build.job import Job
from illada_core.data.build.partitions import BYTES_A_TOKEN, partitions_of
from illada_core.data.portion import Portion
from illada_core.data.sources.listing import Source, list_sources
from illada_core.data.store.dataset import open_dataset
from illada_core.data.store.verify import verify
from illada_core.errors import DataError, UsageError
from illada_core.text.tokenizer import load_tokenizer
from tests.conftest import command_environment
from tests.phrases import PHRASES

SHARD_TOKENS = 600
SETTINGS = "other inputs, or with other settings"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Texts of many sizes, lines of JSON, empty and broken documents."""
    generator = random.Random(5)
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(24):
        text = "".join(generator.choices(PHRASES, k=generator.randrange(80)))
        (folder / f"{number:02}.txt").write_text(text, newline="")
    (folder / "30.txt").write_bytes(b"binary \0")
    lines = [json.dumps({"text": "".join(generator.choices(PHRASES, k=9))}) for _ in range(90)]
    (folder / "40.jsonl").write_text("\n".join([*lines, "{}", ""]))
    return folder


def job_of(folder, tokenizer_file, shard_tokens=SHARD_TOKENS):
    return Job(list_sources([str(folder)]), load_tokenizer(tokenizer_file), "text", shard_tokens)


@pytest.fixture
def job(corpus, tokenizer_file):
    return job_of(corpus, tokenizer_file)


@pytest.fixture(scope="module")
def reference(corpus, tokenizer_file, tmp_path_factory):
    """The dataset that one process makes, and its report."""
    folder = tmp_path_factory.mktemp("reference") / "tokens"
    *_, report = tokenize_corpus(job_of(corpus, tokenizer_file), folder, 1, "skip")
    return folder, report


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def do_part(job, folder, index, count, workers=1):
    *_, done = tokenize_part(job, Portion(index, count), folder, workers, "skip")
    return done


@pytest.mark.parametrize("shard_tokens", [1, 50, 600, 10**9])
def test_partitions_are_neighbouring_sources_up_to_a_size(job, shard_tokens):
    partitions = partitions_of(job.sources, shard_tokens)
    covered = [source for part in partitions for source in range(part.first, part.stop)]
    assert covered == list(range(len(job.sources)))
    assert [part.number for part in partitions] == list(range(len(partitions)))
    for part in partitions:
        *before, last = [source.bytes for source in job.sources[part.first : part.stop]]
        assert sum(before) < BYTES_A_TOKEN * shard_tokens
        if part is not partitions[-1]:
            assert sum(before) + last >= BYTES_A_TOKEN * shard_tokens


def test_a_stream_is_a_partition_of_its_own():
    file, stream = Source("f", "f", "text", bytes=5), Source("s", "s", "hub", is_stream=True)
    empty = Source("e", "e", "text")
    ends = [(p.first, p.stop) for p in partitions_of([file, empty, stream, stream, file, file], 9)]
    assert ends == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert [(p.first, p.stop) for p in partitions_of([empty, stream], 9)] == [(0, 1), (1, 2)]


def test_portions_share_out_all_pieces_evenly():
    generator = random.Random(0)
    for _ in range(50):
        weights = generator.choices(range(100), k=generator.randrange(40))
        count = generator.randrange(1, 12)
        portions = [Portion(index, count).of(weights) for index in range(count)]
        assert sorted(number for own in portions for number in own) == list(range(len(weights)))
        loads = [sum(max(weights[number], 1) for number in own) for own in portions]
        assert max(loads) - min(loads) <= max(weights, default=0) + 1


def test_the_dataset_has_many_partitions_and_every_document_once(corpus, reference, tokenizer_file):
    dataset, tokenizer = open_dataset(reference[0]), load_tokenizer(tokenizer_file, "tokenizers")
    names = [shard.name for shard in dataset.manifest.shards]
    partitions = {name.split("-")[1] for name in names}
    assert len(partitions) > 5
    assert any(name.split("-")[2] != "0000.u16.zst" for name in names)
    texts = [path.read_bytes().decode() for path in sorted(corpus.glob("[012]*.txt"))]
    records = (corpus / "40.jsonl").read_text().splitlines()[:-1]
    texts += [json.loads(line)["text"] for line in records]
    wanted = [[*tokenizer.encode(text), 2] for text in texts if text]
    ends = np.concatenate(list(dataset.document_ends()))
    starts = [0, *ends[:-1]]
    assert [dataset.read(*at).tolist() for at in zip(starts, ends, strict=True)] == wanted
    assert [step.problem for step in verify(dataset) if step.problem] == []
    assert reference[1].skipped == {"binary": 1, 'no key "text"': 1, "empty": texts.count("")}


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_parts_make_the_bytes_of_one_run(job, reference, tmp_path, count):
    folder, order = tmp_path / "tokens", list(range(count))
    random.Random(count).shuffle(order)
    done = [do_part(job, folder, index, count, workers=1 + index % 2) for index in order]
    assert not (folder / "manifest.json").exists()
    *_, report = merge_parts(job, folder, 2)
    assert files_of(folder) == files_of(reference[0])
    for name in ("documents", "tokens", "text_bytes", "shards"):
        total = sum(getattr(part, name) for part in done)
        assert total == getattr(report, name) == getattr(reference[1], name)
    assert report.skipped == reference[1].skipped


def test_a_whole_run_takes_up_what_parts_have_done(job, reference, tmp_path):
    do_part(job, tmp_path / "tokens", 1, 3)
    *_, report = tokenize_corpus(job, tmp_path / "tokens", 1, "skip")
    assert 0 < report.resumed_shards < report.shards
    assert files_of(tmp_path / "tokens") == files_of(reference[0])


def test_a_part_is_stopped_anywhere_and_goes_on(job, reference, tmp_path):
    folder, generator = tmp_path / "tokens", random.Random(2)
    stops = 0
    for index in range(3):
        while True:
            answers = iter([False] * generator.randrange(stops // 2, stops // 2 + 3))
            events = list(
                tokenize_part(
                    job,
                    Portion(index, 3),
                    folder,
                    1,
                    "skip",
                    lambda: next(answers, True),  # noqa: B023
                )
            )
            if isinstance(events[-1], PartDone):
                break
            stops += 1
    assert stops > 4
    list(merge_parts(job, folder, 1))
    assert files_of(folder) == files_of(reference[0])


def test_parts_run_at_once_and_never_two_on_one_partition(job, reference, tmp_path):
    folder, failed = tmp_path / "tokens", []

    def work(index):
        try:
            do_part(job, folder, index, 4)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    first = tokenize_part(job, Portion(0, 9), tmp_path / "other", 1, "skip")
    next(first)
    with pytest.raises(DataError, match="another run is writing"):
        do_part(job, tmp_path / "other", 0, 1)
    first.close()
    list(merge_parts(job, folder, 1))
    assert files_of(folder) == files_of(reference[0])


def test_killed_parts_are_run_again_as_if_never_killed(corpus, reference, tokenizer_file, tmp_path):
    command = [sys.executable, "-m", "illada_cli", "tokenize", str(corpus), "-o", "tokens", "-q"]
    command += ["--tokenizer", str(tokenizer_file), "--shard-tokens", str(SHARD_TOKENS)]
    command += ["--on-error", "skip"]
    generator, kills = random.Random(3), 0
    for index in (1, 0):
        for attempt in range(3):
            part = [*command, "--part", f"{index}/2"]
            process = subprocess.Popen(part, cwd=tmp_path, env=command_environment())
            if attempt < 2:
                while process.poll() is None and not list(tmp_path.glob(f"tokens/*{index}.jsonl*")):
                    time.sleep(0.002)
                time.sleep(generator.random() * 0.05)
                process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills > 1
    merged = subprocess.run([*command, "--merge"], cwd=tmp_path, env=command_environment())
    assert merged.returncode == 0
    assert files_of(tmp_path / "tokens") == files_of(reference[0])


def test_a_merge_names_what_is_not_finished_and_leaves_it(job, reference, tmp_path):
    folder = tmp_path / "tokens"
    do_part(job, folder, 0, 2)
    before = files_of(folder)
    with pytest.raises(DataError, match=r"\d+ of \d+ partitions are not finished: \d+, ") as caught:
        list(merge_parts(job, folder, 1))
    assert "--merge" in caught.value.hint
    assert files_of(folder) == before
    do_part(job, folder, 1, 2)
    list(merge_parts(job, folder, 1))
    assert files_of(folder) == files_of(reference[0])
    assert isinstance(do_part(job, folder, 1, 2), Report)  # nothing is left to do


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "of another"])
def test_a_merge_finds_shards_that_are_not_what_was_written(job, tmp_path, damage):
    folder = tmp_path / "tokens"
    do_part(job, folder, 0, 1)
    first, second = sorted(folder.glob("shard-*"))[:2]
    data = bytearray(first.read_bytes())
    data[9] ^= 1
    match damage:
        case "flipped":
            first.write_bytes(data)
        case "cut":
            first.write_bytes(data[:-1])
        case "gone":
            first.unlink()
        case _:
            shutil.copyfile(second, first)
    with pytest.raises(DataError, match=f"damaged .*{first.name}"):
        list(merge_parts(job, folder, 2))
    assert not (folder / "manifest.json").exists()


def test_parts_of_other_settings_or_inputs_are_refused(job, corpus, tokenizer_file, tmp_path):
    other = job_of(corpus, tokenizer_file, 3 * SHARD_TOKENS)
    do_part(other, tmp_path / "tokens", 0, 2)
    before = files_of(tmp_path / "tokens")
    for work in (
        lambda: do_part(job, tmp_path / "tokens", 1, 2),
        lambda: list(merge_parts(job, tmp_path / "tokens", 1)),
        lambda: list(tokenize_corpus(job, tmp_path / "tokens", 1, "skip")),
    ):
        with pytest.raises(UsageError, match=SETTINGS):
            work()
    assert files_of(tmp_path / "tokens") == before


def test_one_foreign_part_among_many_is_refused(job, corpus, tokenizer_file, tmp_path):
    """As when its folder was copied in: nothing but the merge looks at all of them."""
    folder = tmp_path / "tokens"
    do_part(job, folder, 0, 1)
    do_part(job_of(corpus, tokenizer_file, 601), tmp_path / "other", 0, 1)
    last = max(folder.glob("tokenize-*"))
    shutil.copyfile(tmp_path / "other" / last.name, last)
    with pytest.raises(UsageError, match=SETTINGS):
        list(merge_parts(job, folder, 1))


@pytest.mark.parametrize(
    "line",
    [
        '{"position": [0, 0]',
        '{"position": [99, 0]}',
        '{"position": [1, 0], "shard": {"name": "../../x"}}',
        '{"position": [1, 0], "shard": {"name": "/etc/passwd", "tokens": 1, "documents": 1, '
        '"segments": 0, "rows": 0, "bytes": 1, "sha256": "0"}}',
    ],
)
def test_a_hostile_journal_is_one_sentence(job, tmp_path, line):
    folder = tmp_path / "tokens"
    do_part(job, folder, 0, 1)
    journal = min(folder.glob("tokenize-*"))
    header = journal.read_text().splitlines()[0]
    journal.write_text(f"{header}\n{line}\n")
    with pytest.raises(DataError, match=rf"{journal.name} is damaged|damaged shard|not finished"):
        list(merge_parts(job, folder, 1))
    assert not (folder / "manifest.json").exists()


def test_a_folder_begun_by_an_earlier_version_is_refused(job, tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "tokenize.jsonl.partial").write_text('{"job": "of version 1"}\n')
    with pytest.raises(UsageError, match=SETTINGS):
        do_part(job, folder, 0, 1)


def test_a_pipe_has_no_parts(tokenizer_file, tmp_path):
    job = Job(list_sources(["-"]), load_tokenizer(tokenizer_file), "text")
    with pytest.raises(UsageError, match="is a stream"):
        do_part(job, tmp_path / "tokens", 0, 2)
