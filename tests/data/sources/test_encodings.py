"""Texts that are not in UTF-8, and a look at all inputs before a run."""

import gzip
import sys

import pytest

from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.encodings import in_encoding, known_encoding
from illada_core.data.sources.listing import list_sources
from illada_core.data.sources.scan import refuse_bad_files
from illada_core.errors import DataError, UsageError

TEXT = "Größe, naïve café.\nZwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n"


def texts_in(path, encoding, wanted="auto"):
    sources = in_encoding(list_sources([str(path)], wanted), encoding)
    read = [chunk.read() for chunk in corpus_chunks(sources, "text")]
    return [text for texts in read for text in texts.texts], [f for t in read for f in t.faults]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "latin-1", "utf-8"])
def test_files_are_read_in_the_encoding_that_is_named(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(TEXT.encode(encoding)))
    for name in ("a.txt", "b.txt.gz"):
        assert texts_in(tmp_path / name, encoding) == ([TEXT], [])
        assert texts_in(tmp_path / name, encoding, "lines")[0] == TEXT.splitlines()
    (tmp_path / "c.csv").write_bytes(f'n,text\n1,"{TEXT}"\n'.encode(encoding))
    assert texts_in(tmp_path / "c.csv", encoding) == ([TEXT], [])


def test_what_is_not_in_the_named_encoding_is_a_fault(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x81")
    texts, faults = texts_in(tmp_path / "a.txt", "cp1252")
    assert (texts, [fault.detail for fault in faults]) == ([], ["not cp1252: byte 0x81"])


def test_an_encoding_that_is_none_is_refused():
    assert known_encoding("UTF8") == "utf-8"
    for name in ("klingon", "base64", "a\0b"):
        with pytest.raises(UsageError, match="no encoding"):
            known_encoding(name)


ENCODED = [
    (TEXT, "utf-8"),
    (TEXT, "cp1252"),
    ("Où est passée la journée d’été ? À l’école, les élèves étudient déjà.\n", "cp1252"),
    ("Zażółć gęślą jaźń. Pchnąć w tę łódź jeża lub ośm skrzyń fig.\n", "cp1250"),
    ("Zażółć gęślą jaźń. Pchnąć w tę łódź jeża lub ośm skrzyń fig.\n", "utf-16"),
    ("Съешь же ещё этих мягких французских булок, да выпей чаю.\n", "cp1251"),
    ("Съешь же ещё этих мягких французских булок, да выпей чаю.\n", "koi8-r"),
    ("Pijamalı hasta yağız şoföre çabucak güvendi.\n", "cp1254"),
    ("いろはにほへと ちりぬるを わかよたれそ つねならむ\n", "shift_jis"),
    ("いろはにほへと ちりぬるを わかよたれそ つねならむ\n", "euc-jp"),
    ("我能吞下玻璃而不伤身体。天地玄黄，宇宙洪荒。\n", "gbk"),
    ("我能吞下玻璃而不傷身體。天地玄黃，宇宙洪荒。\n", "big5"),
    ("키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.\n", "euc-kr"),
]


def test_an_encoding_is_found_out_file_by_file(tmp_path, monkeypatch):
    pytest.importorskip("cchardet")
    for number, (text, encoding) in enumerate(ENCODED):
        (tmp_path / f"{number}.txt").write_bytes((text * 5).encode(encoding))
        assert texts_in(tmp_path / f"{number}.txt", "auto") == ([text * 5], []), encoding
    monkeypatch.setitem(sys.modules, "cchardet", None)
    assert texts_in(tmp_path / "0.txt", "auto") == ([TEXT * 5], [])
    with pytest.raises(UsageError, match="needs faust-cchardet"):
        texts_in(tmp_path / "1.txt", "auto")


def test_all_bad_files_are_named_at_once(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good")
    (tmp_path / "b.txt").write_bytes(b"x\n\xff")
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n{\n{"n": 1}\n')
    (tmp_path / "d.txt.gz").write_bytes(b"no gzip")
    sources = list_sources([str(tmp_path)])
    with pytest.raises(DataError) as caught:
        refuse_bad_files(sources, "text")
    assert str(caught.value).splitlines() == [
        "3 files cannot be used:",
        "  b.txt:2: not UTF-8 (byte 0xff)",
        "  c.jsonl:2: broken JSON (Expecting property name enclosed in double quotes at column 2)",
        "  d.txt.gz: damaged (not valid gzip)",
    ]
    refuse_bad_files(sources[:1], "text")
