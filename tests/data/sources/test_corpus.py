"""Every kind of input gives its documents, in order, and every damage is named in its place."""

import gzip
import hashlib
import io
import json
import os
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from illada_core.data.sources import lines, plain, reading
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.hub import hub_address
from illada_core.data.sources.listing import list_sources
from illada_core.data.sources.reading import Meter, inflate_blocks
from illada_core.errors import DataError, UsageError

TEXTS = ["first", "", "zweitens: Größe\r\n", "日本語 " * 50, '<[EOS]> \u2028 \\ " 😀\t']


def read(*inputs, key="text", start=(0, 0), wanted="auto"):
    """Return documents as {(file, record): text}, faults and digests of all chunks."""
    sources = list_sources([str(item) for item in inputs], wanted)
    documents, faults, digests, begun = {}, [], [], ""
    for chunk in corpus_chunks(sources, key, start):
        texts = chunk.read()
        for text, file, record in zip(texts.texts, texts.files, texts.records, strict=True):
            begun += text
            if not texts.is_open:
                documents[file, record] = begun
                begun = ""
        faults += texts.faults
        digests += texts.digests
    return documents, faults, digests


def jsonl(texts, key="text"):
    return "".join(json.dumps({"id": 1, key: text}, ensure_ascii=False) + "\n" for text in texts)


def two_frames(data):
    half = len(data) // 2
    compressor = zstandard.ZstdCompressor()
    return compressor.compress(data[:half]) + compressor.compress(data[half:])


def arrow_stream(texts, key="text", kind=pyarrow.ipc.new_stream):
    table = pyarrow.table({"other": [0] * len(texts), key: texts})
    sink = io.BytesIO()
    with kind(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def parquet(texts, key="text"):
    sink = io.BytesIO()
    table = pyarrow.table({"other": [0] * len(texts), key: texts})
    pyarrow.parquet.write_table(table, sink, row_group_size=2)
    return sink.getvalue()


FILES = {
    "plain.jsonl": jsonl(TEXTS).encode(),
    "bare-end.jsonl": jsonl(TEXTS).encode().rstrip(b"\n"),
    "mark.jsonl": b"\xef\xbb\xbf" + jsonl(TEXTS).encode(),
    "members.jsonl.gz": gzip.compress(jsonl(TEXTS[:2]).encode())
    + gzip.compress(jsonl(TEXTS[2:]).encode()),
    "frames.jsonl.zst": two_frames(jsonl(TEXTS).encode()),
    "rows.parquet": parquet(TEXTS),
    "stream.arrow": arrow_stream(TEXTS),
    "file.arrow": arrow_stream(TEXTS, kind=pyarrow.ipc.new_file),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("first", [0, 3, 5])
def test_records_of_every_layout_are_documents(tmp_path, name, first):
    (tmp_path / name).write_bytes(FILES[name])
    documents, faults, digests = read(tmp_path / name, start=(0, first))
    assert documents == {(0, n): text for n, text in enumerate(TEXTS) if n >= first}
    assert not faults
    assert digests[0].bytes == len(FILES[name])


@pytest.mark.parametrize("block", [1, 10, 64, 10**6])
def test_lines_do_not_depend_on_the_blocks_of_the_file(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "CHUNK_BYTES", block)
    (tmp_path / "a.jsonl").write_bytes(FILES["plain.jsonl"])
    for first in range(len(TEXTS) + 1):
        documents, faults, _ = read(tmp_path / "a.jsonl", start=(0, first))
        assert documents == {(0, n): text for n, text in enumerate(TEXTS) if n >= first}
        assert not faults


def test_a_line_as_a_document_keeps_its_blanks(tmp_path):
    (tmp_path / "a.txt").write_bytes(b" one\r\n\ntwo")
    documents, _, _ = read(tmp_path / "a.txt", wanted="lines")
    assert list(documents.values()) == [" one", "", "two"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("whole_bytes", [10**6, 10])
def test_a_text_file_is_one_document(tmp_path, monkeypatch, suffix, whole_bytes):
    monkeypatch.setattr(plain, "WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr("illada_core.data.sources.corpus.WHOLE_BYTES", whole_bytes)
    text = "\ufeffGröße\r\n" + "日本語 word\n" * 100
    pack = {"": bytes, ".gz": gzip.compress, ".zst": two_frames}[suffix]
    (tmp_path / f"a.md{suffix}").write_bytes(pack(text.encode()))
    (tmp_path / "b.md").write_text("next")
    documents, faults, digests = read(tmp_path)
    assert documents == {(0, 0): text, (1, 0): "next"}
    assert not faults
    assert [digest.file for digest in digests] == [0, 1]
    assert not read(tmp_path, start=(1, 1))[0]


BROKEN_LINES = {
    "broken JSON": b'{"text": "x"',
    'no key "text"': b'{"txt": "x"}',
    "no text": b'{"text": null}',
    "not UTF-8": b'{"text": "\xff"}',
}


@pytest.mark.parametrize("reason", BROKEN_LINES)
def test_a_broken_line_is_named_and_the_others_are_read(tmp_path, reason):
    good = jsonl(["good"]).encode()
    (tmp_path / "a.jsonl").write_bytes(good + b"\n" + BROKEN_LINES[reason] + b"\n" + good)
    documents, (fault,), _ = read(tmp_path / "a.jsonl")
    assert list(documents) == [(0, 0), (0, 3)]
    assert (fault.reason, fault.record, fault.line) == (reason, 2, 3)


@pytest.mark.parametrize("line", ['{"text": "\\ud800"}', "[1]", '"text"', "12", "[" * 100_000])
def test_odd_json_is_a_fault_and_no_crash(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n" + jsonl(["good"]))
    documents, (fault,), _ = read(tmp_path / "a.jsonl")
    assert list(documents.values()) == ["good"]
    assert fault.line == 1


def test_a_line_that_is_too_long_is_left_out_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "RECORD_BYTES", 100)
    monkeypatch.setattr(reading, "CHUNK_BYTES", 32)
    (tmp_path / "a.jsonl").write_text(jsonl(["good", "x" * 500, "good", "y" * 500]))
    documents, faults, _ = read(tmp_path / "a.jsonl")
    assert list(documents) == [(0, 0), (0, 2)]
    assert [(fault.reason, fault.line) for fault in faults] == [
        ("too long", 2),
        ("too long", 4),
    ]


@pytest.mark.parametrize(
    ("data", "reason", "line"),
    [
        (b"ab\nc\xffd\n", "not UTF-8", 2),
        (b"ab\n\nc\0d", "binary", 3),
        (b"ab\xe6\x97", "not UTF-8", 1),
    ],
)
@pytest.mark.parametrize("whole_bytes", [10**6, 1])
def test_a_text_with_bad_bytes_is_left_out_whole(
    tmp_path, monkeypatch, data, reason, line, whole_bytes
):
    monkeypatch.setattr(plain, "WHOLE_BYTES", whole_bytes)
    monkeypatch.setattr("illada_core.data.sources.corpus.WHOLE_BYTES", whole_bytes)
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "b.txt").write_text("good")
    documents, (fault,), digests = read(tmp_path)
    assert documents == {(1, 0): "good"}
    assert (fault.file, fault.reason, fault.line) == (0, reason, line)
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["members.jsonl.gz", "frames.jsonl.zst"])
def test_a_file_that_is_cut_off_is_damaged_and_its_whole_lines_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name][:-9])
    documents, (fault,), digests = read(tmp_path / name)
    assert all(documents[place] == TEXTS[place[1]] for place in documents)
    assert (fault.reason, fault.detail) == ("damaged", "the file is cut off")
    assert digests[0].bytes == len(FILES[name]) - 9


@pytest.mark.parametrize(
    "name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.parquet", "a.arrow", "b.arrow"]
)
def test_a_file_that_is_not_what_its_name_says_is_damaged(tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name[0] == "b" else b"this is plain text\n" * 10)
    documents, (fault,), digests = read(tmp_path / name)
    assert not documents
    assert fault.reason == "damaged"
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["rows.parquet", "stream.arrow"])
def test_a_missing_column_is_told_with_those_there_are(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    _, (fault,), _ = read(tmp_path / name, key="content")
    assert fault.reason == 'no column "content"'
    assert fault.detail == "there are: other, text"


def test_a_value_that_is_no_text_is_a_fault(tmp_path):
    (tmp_path / "a.parquet").write_bytes(parquet(["good", None, "good"]))
    documents, (fault,), _ = read(tmp_path / "a.parquet")
    assert list(documents) == [(0, 0), (0, 2)]
    assert (fault.reason, fault.detail) == ("no text", "the value is null")
    assert (fault.record, fault.line) == (1, 2)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_string_of_a_table_that_is_not_utf8_is_a_fault(tmp_path, name):
    values = pyarrow.array([b"good", b"caf\xe9", b"good"], pyarrow.binary())
    strings = pyarrow.Array.from_buffers(pyarrow.string(), 3, values.buffers())
    table = pyarrow.table({"text": strings})
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(table, tmp_path / name)
    else:
        with pyarrow.ipc.new_stream(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    documents, (fault,), _ = read(tmp_path / name)
    assert documents == {(0, 0): "good", (0, 2): "good"}
    assert (fault.reason, fault.detail, fault.line) == ("not UTF-8", "byte 0xe9", 2)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_table_in_a_named_pipe_is_a_fault_and_never_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    documents, (fault,), (digest,) = read(tmp_path / name)
    assert (documents, digest.bytes) == ({}, 0)
    assert (fault.reason, fault.detail) == ("cannot be read", "a table has no place in a pipe")


@pytest.mark.parametrize("listed", [0, 1, 7, 8, 100])
def test_a_file_that_changed_since_it_was_listed_is_read_to_its_end(tmp_path, listed):
    (tmp_path / "a.txt").write_bytes(b"8 bytes\n")
    (source,) = list_sources([str(tmp_path)])
    texts = plain.read_small_files([(0, replace(source, bytes=listed))])
    assert (texts.texts, texts.sizes) == (["8 bytes\n"], [8])
    assert texts.digests == [reading.Digest(0, 8, hashlib.sha256(b"8 bytes\n").hexdigest())]


def test_a_file_that_cannot_be_opened_is_a_fault(tmp_path):
    (tmp_path / "a.txt").symlink_to("nowhere")
    (tmp_path / "b.jsonl").symlink_to("nowhere")
    documents, faults, digests = read(tmp_path)
    assert not documents
    assert {fault.reason for fault in faults} == {"cannot be read"}
    assert {fault.detail for fault in faults} == {"no such file or directory"}
    assert len(digests) == 2


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_zstd_frames_and_skippable_frames_are_read_to_the_end(monkeypatch, step):
    monkeypatch.setattr(reading, "INFLATE_BYTES", step)
    skippable = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"hello"
    data = two_frames(b"one two") + skippable + zstandard.ZstdCompressor().compress(b" three")
    assert b"".join(inflate_blocks(Meter(io.BytesIO(data)), ".zst")) == b"one two three"


def test_a_hub_dataset_is_streamed_through_datasets(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "train.jsonl").write_text(jsonl(TEXTS))
    documents, faults, digests = read(f"hf:{folder}#train")
    assert list(documents.values()) == TEXTS
    assert not faults
    assert digests[0].bytes == sum(len(text.encode()) for text in TEXTS)
    assert list(read(f"hf:{folder}#train", start=(0, 3))[0]) == [(0, 3), (0, 4)]
    with pytest.raises(DataError, match='has no column "content"'):
        read(f"hf:{folder}#train", key="content")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hf:owner/name#test", ("owner/name", None, "test")),
        ("hf:owner/name/config", ("owner/name", "config", "train")),
        ("hf:name#all", ("name", None, "all")),
        ("hf:./folder/deep#x", ("./folder/deep", None, "x")),
    ],
)
def test_hub_addresses(path, expected):
    assert hub_address(path) == expected


@pytest.mark.parametrize("path", ["hf:", "hf:a//b", "hf:a/b/c/d"])
def test_a_hub_address_that_is_none_is_refused(path):
    with pytest.raises(UsageError):
        hub_address(path)
