"""Inputs at URLs give what copies here would give, and no fault of a network is passed over."""

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem

from illada_core import remote
from illada_core.data.sources.corpus import corpus_chunks
from illada_core.data.sources.encodings import in_encoding
from illada_core.data.sources.listing import list_sources
from illada_core.errors import DataError, UsageError

LINES = "".join(json.dumps({"text": f"line {n}"}) + "\n" for n in range(500)).encode()


class Shaky(MemoryFileSystem):
    """Files in memory over a network that breaks: `faults` are raised before anything is done."""

    protocol = "shaky"
    store = MemoryFileSystem.store
    faults = []  # noqa: RUF012
    opened = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("shaky://", "memory://"))

    def _open(self, path, *arguments, **options):
        Shaky.opened += 1
        file = super()._open(path, *arguments, **options)
        return Breaking(file.getvalue())

    def ls(self, path, detail=True, **options):
        fail()
        return super().ls(path, detail, **options)


class Breaking:
    """A file open for reading, whose connection may break at any read."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def seekable(self):
        return False

    def read(self, size=-1):
        if self.at:
            fail()
        size = min(size, 1000) if size >= 0 else 1000
        self.at += size
        return self.data[self.at - size : self.at]

    def close(self):
        pass


def fail():
    if Shaky.faults and (fault := Shaky.faults.pop(0)):
        raise fault


@pytest.fixture
def shaky(monkeypatch):
    """What goes wrong next in files at shaky://; waits between tries are short."""
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Shaky, "faults", [])
    monkeypatch.setattr(Shaky, "opened", 0)
    return Shaky


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A corpus of all kinds of files, in a folder and in memory; the URL of the latter."""
    monkeypatch.chdir(tmp_path)
    table = pyarrow.table({"text": [f"row {n}" for n in range(50)]})
    folder = tmp_path / "corpus"
    (folder / "a-b").mkdir(parents=True)
    (folder / "a").mkdir()
    (folder / "b.txt").write_text("some text")
    (folder / "a/z.jsonl").write_bytes(LINES)
    (folder / "a/y.jsonl.zst").write_bytes(zstandard.compress(LINES))
    (folder / "a/x.txt.gz").write_bytes(gzip.compress(b"pressed " * 400_000))
    (folder / "a-b/w.csv").write_text('text,id\n"one, two",1\n')
    (folder / "a-b/v.json").write_text('[{"text": "an item"}]')
    (folder / "large.txt").write_text("a large text\n" * 900_000)
    (folder / ".hidden").write_text("no input")
    pyarrow.parquet.write_table(table, folder / "p.parquet")
    with pyarrow.ipc.new_file(str(folder / "q.arrow"), table.schema) as file:
        file.write_table(table)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/stored", recursive=True)
    yield "memory://stored"
    memory.rm("/stored", recursive=True)


def documents(inputs, key="text", **options):
    """Return all that is read: texts, numbers and faults, and the digests."""
    sources = list_sources([str(each) for each in inputs], **options)
    read = [chunk.read() for chunk in corpus_chunks(sources, key)]
    texts = [(s.name, t) for c in read for s, t in zip(map(sources.__getitem__, c.files), c.texts)]  # noqa: B905
    digests = [digest for chunk in read for digest in chunk.digests]
    return texts, digests, [fault for chunk in read for fault in chunk.faults]


@pytest.mark.parametrize("key", ["text", None])
def test_files_at_urls_are_read_as_their_copies_are(corpus, key):
    chosen = ["!*.csv"] if key is None else []
    found = documents([corpus], key, globs=chosen)
    assert found == documents(["corpus"], key, globs=chosen)
    assert len(found[0]) > 1000
    assert not found[2]


def test_they_are_listed_in_the_same_order_under_the_same_names(corpus):
    def listed(*inputs, **options):
        sources = list_sources(inputs, **options)
        return [(s.name, s.layout, s.compression, s.bytes, s.encoding) for s in sources]

    assert listed(corpus + "/") == listed("corpus")
    here = Path("corpus").resolve()
    assert listed(f"{corpus}/b.txt", f"{corpus}/a") == listed(f"{here}/b.txt", f"{here}/a")
    assert listed(corpus, globs=["*.jsonl*", "!a/y*"]) == listed(
        "corpus", globs=["*.jsonl*", "!a/y*"]
    )
    assert [name for name, *_ in listed(f"{corpus}/a/*.jsonl*")] == ["y.jsonl.zst", "z.jsonl"]
    assert [name for name, *_ in listed(f"{corpus}/**/*.csv")] == ["w.csv"]
    wide = in_encoding(list_sources([f"{corpus}/b.txt"]), "auto")
    assert [source.encoding for source in wide] == ["utf-8"]


def test_what_is_not_there_is_told(corpus):
    with pytest.raises(DataError, match=r"^no such file or folder: memory://stored/nothing$"):
        list_sources([f"{corpus}/nothing"])
    with pytest.raises(DataError, match=r"^nothing matches memory://stored/\*.nothing$"):
        list_sources([f"{corpus}/*.nothing"])
    with pytest.raises(UsageError, match=r"^the same input is named twice: memory://stored/b.txt$"):
        list_sources([f"{corpus}/b.txt", f"{corpus}/b.txt"])


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("nothing://there", 2, "there is no way to nothing://"),
        ("oci://bucket/file", 2, "oci:// lacks its package"),
    ],
)
def test_a_protocol_that_is_not_here_is_told(url, code, said):
    with pytest.raises(UsageError, match=said) as error:
        list_sources([url])
    assert error.value.code == code


def test_reading_goes_on_where_a_connection_broke(corpus, shaky):
    shaky.faults = [None, OSError("reset"), None, ConnectionError("gone"), ValueError("odd")]
    with remote.RemoteReader("shaky://stored/a/z.jsonl") as file:
        data = b"".join(iter(lambda: file.read(700), b""))
    assert data == LINES
    assert shaky.opened == 4
    assert not shaky.faults


def test_a_connection_that_stays_broken_ends_the_work(corpus, shaky):
    """Also where faults of documents are left out: a file that cannot be had is no such fault."""
    (source,) = list_sources(["shaky://stored/a/z.jsonl"])
    shaky.faults = [OSError("the network is down")] * 4
    with pytest.raises(
        DataError, match=r"^cannot read shaky://stored/a/z.jsonl: the network is down"
    ):
        [chunk.read() for chunk in corpus_chunks([source], "text")]
    shaky.faults = [OSError("the network is down")] * 4
    with pytest.raises(DataError, match=r"^cannot list shaky://stored: the network is down"):
        list_sources(["shaky://stored"])


def test_no_folder_is_passed_over_that_cannot_be_listed(corpus, shaky):
    shaky.faults = [None, OSError("once")]
    assert [s.name for s in list_sources(["shaky://stored"])] == [
        s.name for s in list_sources(["corpus"])
    ]
    shaky.faults = [None, *[PermissionError("not yours")] * 4]
    with pytest.raises(DataError, match=r"no right to list shaky://stored: not yours"):
        list_sources(["shaky://stored"])


def test_a_file_that_changes_while_it_is_read_is_refused(corpus, shaky):
    memory = fsspec.filesystem("memory")
    with remote.RemoteReader("shaky://stored/a/z.jsonl") as file:
        file.read(10)
        memory.pipe("/stored/a/z.jsonl", LINES[::-1])
        shaky.faults = [OSError("reset")]
        with pytest.raises(DataError, match=r"z.jsonl changed while it was read"):
            file.read(10)


def test_a_file_that_ends_early_is_no_shorter_file(corpus, shaky, monkeypatch):
    monkeypatch.setattr(Breaking, "read", lambda *_: b"")
    with pytest.raises(DataError, match=r"it ended after 0 of 9 bytes"):
        remote.read("shaky://stored/b.txt")
