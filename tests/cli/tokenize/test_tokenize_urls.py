"""`illada tokenize` of inputs at URLs (file://, which needs no network)."""

import json

import pytest

from tests.cli.corpus import TOKENIZE

TOKENIZER = ("--tokenizer", "tokenizer.json")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ILLADA_CACHE", str(tmp_path / "cache"))


def test_inputs_at_a_url_give_the_bytes_of_inputs_here(corpus, illada, tmp_path):
    (corpus / "more").mkdir()
    (corpus / "more" / "c.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    illada(*TOKENIZE, "-o", "here")
    illada("tokenize", f"{corpus.as_uri()}/", *TOKENIZER, "-o", "there")
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == names
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    url = f"{tmp_path.as_uri()}/put"
    made = illada(*TOKENIZE, "-o", f"{url}/")
    assert (made.stdout, list((tmp_path / "cache" / "outbox").rglob("*.*"))) == (f"{url}\n", [])
    for name in names:
        assert (tmp_path / "put" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    again = illada("tokenize", corpus.as_uri(), *TOKENIZER, "-o", url, "--json")
    described = json.loads(again.stdout)
    assert (described["output"], described["was_complete"]) == (url, True)
    assert "complete already: 4 documents" in again.stderr
    file = corpus / "a.txt"
    file.write_text(file.read_text().swapcase())
    changed = illada("tokenize", corpus.as_uri(), *TOKENIZER, "-o", url, code=2)
    assert f"illada: {url} was made before a.txt changed" in changed.stderr


def test_a_tokenizer_may_be_at_a_url(corpus, illada, tmp_path):
    url = tmp_path.as_uri()
    said = illada("tokenize", "corpus", "--tokenizer", f"{url}/tokenizer.json", "-n", "--json")
    assert json.loads(said.stdout)["tokenizer"] == f"{url}/tokenizer.json"
    missing = illada("tokenize", "corpus", "--tokenizer", f"{url}/none", "-n", code=1)
    assert f"illada: no tokenizer at {url}/none\n" in missing.stderr


def test_what_cannot_be_had_is_told_in_a_sentence(corpus, illada):
    for url, code, said in (
        ("file:///not/there", 1, "illada: no such file or folder: file:///not/there\n"),
        ("file:///not/*.txt", 1, "illada: nothing matches file:///not/*.txt\n"),
        ("oci://bucket/x", 2, "illada: oci:// lacks its package: "),
        ("nothing://x", 2, "illada: there is no way to nothing://\n\nhint: such as s3://"),
    ):
        done = illada("tokenize", url, *TOKENIZER, "-o", "tokens", code=code)
        assert done.stderr.startswith(said)
        assert "Traceback" not in done.stderr


def test_a_vocabulary_is_not_written_to_a_url(corpus, illada, tmp_path):
    options = ("--train-vocab", "300", "-o", f"{tmp_path.as_uri()}/v.json")
    refused = illada("tokenize", "corpus", *options, code=2)
    assert f"illada: a vocabulary is written to a file here, not to {options[-1]}" in refused.stderr
