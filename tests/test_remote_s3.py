"""Files on a server of S3's protocol; `make cluster` runs this in an environment of its own."""

import pytest

from illada_core import remote
from illada_core.data.build import delivering
from illada_core.data.build.documents import tokenize_corpus
from illada_core.data.build.job import Job
from illada_core.data.sources.listing import list_sources
from illada_core.data.store.dataset import open_dataset
from illada_core.errors import DataError
from illada_core.places import path_of
from illada_core.text.tokenizer import load_tokenizer

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint():
    """A server on this machine with a bucket, and the variables by which it is found."""
    import s3fs

    threaded = server.ThreadedMotoServer(port=0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        changed.setenv("AWS_ACCESS_KEY_ID", "someone")
        changed.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        changed.setenv("AWS_DEFAULT_REGION", "us-east-1")
        changed.setattr(remote, "WAITS_S", (0.1,))
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield changed
        s3fs.S3FileSystem.clear_instance_cache()
    threaded.stop()


@pytest.fixture
def corpus(tmp_path, monkeypatch, endpoint):
    """A corpus here and in the bucket."""
    monkeypatch.setenv("ILLADA_CACHE", str(tmp_path / "cache"))
    for name in ("b.txt", "a/z.jsonl", "a-b/x.txt"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "a line"}\n' * 2000)
        remote.upload(path, f"s3://bucket/corpus/{name}")
    return tmp_path / "corpus"


def job_of(inputs, tokenizer_file):
    return Job(list_sources([str(inputs)]), load_tokenizer(tokenizer_file), "text", 5000)


def test_a_corpus_and_a_dataset_in_a_bucket(corpus, tokenizer_file, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    list(tokenize_corpus(job_of(corpus, tokenizer_file), here, 1))
    list(tokenize_corpus(job_of("s3://bucket/corpus", tokenizer_file), there, 1))
    names = sorted(path.name for path in here.iterdir())
    assert sorted(path.name for path in there.iterdir()) == names
    for name in names:
        assert (there / name).read_bytes() == (here / name).read_bytes()
        remote.upload(here / name, f"s3://bucket/tokens/{name}")
    list(delivering.tokenize_corpus(job_of(corpus, tokenizer_file), path_of("s3://bucket/put"), 1))
    for name in names:
        assert remote.read(f"s3://bucket/put/{name}") == (here / name).read_bytes()
    assert sorted(remote.list_files("s3://bucket/put")) == names
    stored, own = open_dataset(path_of("s3://bucket/tokens")), open_dataset(here)
    assert (stored.read(0, stored.tokens) == own.read(0, own.tokens)).all()
    assert stored.documents > 2000


def test_listing_and_globs_of_a_bucket(corpus):
    assert list(remote.list_files("s3://bucket/corpus")) == ["a-b/x.txt", "a/z.jsonl", "b.txt"]
    assert list(remote.list_files("s3://bucket/corpus", is_deep=False)) == ["b.txt"]
    assert list(remote.list_files("s3://bucket/corpus/b.txt")) == [""]
    assert remote.list_files("s3://bucket/corp") == {}
    assert remote.match("s3://bucket/corpus/**/*.txt") == [
        "s3://bucket/corpus/a-b/x.txt",
        "s3://bucket/corpus/b.txt",
    ]
    found = remote.list_files("s3://bucket/corpus")["b.txt"]
    assert found.bytes == (corpus / "b.txt").stat().st_size
    assert found.modified
    assert found.version.strip('"').isalnum()
    remote.remove("s3://bucket/corpus/b.txt")
    remote.remove("s3://bucket/corpus/b.txt")
    assert remote.find_file("s3://bucket/corpus/b.txt") is None


def test_what_cannot_be_had_is_told(corpus, endpoint):
    with pytest.raises(DataError, match=r"^no such file or folder: s3://bucket/none$"):
        remote.read("s3://bucket/none")
    with pytest.raises(DataError, match=r"^no such file or folder: s3://nowhere/none$"):
        list_sources(["s3://nowhere/none"])
    with remote.RemoteReader("s3://bucket/corpus/b.txt") as file:
        file.read(10)
        (corpus / "b.txt").write_text("changed")
        remote.upload(corpus / "b.txt", "s3://bucket/corpus/b.txt")
        file._drop()
        with pytest.raises(DataError, match="changed while it was read"):
            file.read(10)
    endpoint.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"^cannot list s3://bucket/corpus: "):
        remote.list_files("s3://bucket/corpus")
