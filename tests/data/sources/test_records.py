"""JSON in any of its shapes, tables of separated values, and files not in UTF-8."""

import gzip
import json

import pytest
import zstandard

from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.listing import list_sources

RECORDS = [{"text": "First.\nTwo lines.", "n": 1}, {"text": "Zweitens é 😀"}, {"text": "third"}]
PACK = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress, "": bytes}


def read(path, first=0, key="text", wanted="auto"):
    """Return documents by record, and the faults, of one file from a record on."""
    documents, faults, digests = {}, [], 0
    sources = list_sources([str(path)], wanted)
    for chunk in corpus_chunks(sources, key, (0, first)):
        texts = chunk.read()
        documents.update(zip(texts.records, texts.texts, strict=True))
        faults += texts.faults
        digests += len(texts.digests)
    assert digests == 1
    return documents, faults


def texts_of(records):
    return dict(enumerate(record["text"] for record in records))


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("shape", ["lines", "array", "indented array"])
def test_json_records_are_found_by_content(tmp_path, compression, mark, end, shape):
    if shape == "lines":
        text = end.join(json.dumps(record) for record in RECORDS)
    else:
        text = json.dumps(RECORDS, indent=2 if shape == "indented array" else None)
    path = tmp_path / f"part.json{compression}"
    path.write_bytes(PACK[compression]((mark + text.replace("\n", end)).encode()))
    assert read(path) == (texts_of(RECORDS), [])
    documents, _ = read(path, first=2)
    assert documents[2] == "third"
    assert 0 not in documents or shape == "lines"


def test_a_long_array_comes_in_chunks_and_is_read_on_from_any_record(tmp_path):
    records = [{"text": f"{number} " + "x, ]}" * 5000} for number in range(200)]
    (tmp_path / "a.json").write_text(json.dumps(records))
    chunks = list(corpus_chunks(list_sources([str(tmp_path / "a.json")]), "text"))
    assert len(chunks) > 3
    assert read(tmp_path / "a.json")[0] == texts_of(records)
    assert sorted(read(tmp_path / "a.json", first=150)[0]) == list(range(150, 200))


@pytest.mark.parametrize(
    "text", ['{"name": "x", "version": 1}', "[1, 2]", "[]", "", "{", '{\n "text": 1\n}', "null"]
)
def test_other_json_is_one_text(tmp_path, text):
    (tmp_path / "package.json").write_text(text)
    assert read(tmp_path / "package.json") == ({0: text}, [])


@pytest.mark.parametrize(
    ("text", "found", "reason"),
    [
        ('[{"text": "a"}, {"text": "b"', ["a"], "broken JSON"),
        ('[{"text": "a"}', [], "broken JSON"),
        ('[{"text": "a"} {"text": "b"}]', [], "broken JSON"),
        ('[{"text": "a"}] x', ["a"], "broken JSON"),
        ('[{"text": "a"}, {"n": 1}]', ["a"], 'no key "text"'),
        ('[{"text": "a"}, 7]', ["a"], "no text"),
        ("[{" + "[" * 100_000, [], "broken JSON"),
    ],
)
def test_a_broken_array_is_a_fault(tmp_path, text, found, reason):
    (tmp_path / "a.json").write_text(text)
    documents, faults = read(tmp_path / "a.json")
    assert list(documents.values()) == found
    assert [fault.reason for fault in faults] == [reason]


def test_lines_know_neither_byte_order_marks_nor_carriage_returns(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufefffirst\r\nsecond\r\n\r\nlast\r\n".encode())
    documents, faults = read(tmp_path / "a.txt", wanted="lines")
    assert (list(documents.values()), faults) == (["first", "second", "", "last"], [])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_a_column_of_a_separated_table_is_read(tmp_path, end, name):
    comma = "\t" if "tsv" in name else ","
    rows = [["n", "text"], ["1", "plain"], ["2", f'"two{end}lines, ""quoted"""'], ["3", "é"]]
    data = ("\ufeff" + end.join(comma.join(row) for row in rows) + end).encode()
    (tmp_path / name).write_bytes(PACK[".gz" if name.endswith("gz") else ""](data))
    expected = {0: "plain", 1: f'two{end}lines, "quoted"', 2: "é"}
    assert read(tmp_path / name) == (expected, [])
    assert read(tmp_path / name, first=2)[0] == {2: "é"}
    assert read(tmp_path / name, key="n")[0] == {0: "1", 1: "2", 2: "3"}


def test_a_table_without_the_column_says_which_there_are(tmp_path):
    (tmp_path / "a.csv").write_text("name,body\nx,y\n")
    _, faults = read(tmp_path / "a.csv")
    assert [(fault.reason, fault.detail) for fault in faults] == [
        ('no column "text"', "there are: name, body")
    ]
    (tmp_path / "b.csv").write_text("n,text\n1,a\n2\n3,c\n")
    documents, faults = read(tmp_path / "b.csv")
    assert (documents, [fault.line for fault in faults]) == ({0: "a", 2: "c"}, [2])
    (tmp_path / "c.csv").write_text('text\n"open\n')
    assert [fault.reason for fault in read(tmp_path / "c.csv")[1]] == ["damaged"]
