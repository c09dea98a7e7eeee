"""Inputs are listed in one order, once each, under names that say nothing of the machine."""

import os

import pytest

from illada_core.data.sources.listing import list_sources
from illada_core.errors import DataError, UsageError


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a/z.jsonl", "a/y.jsonl.zst", "a-b/x.py", ".hidden", ".git/config"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return tmp_path / "corpus"


def names(inputs, **options):
    return [source.name for source in list_sources([str(item) for item in inputs], **options)]


def test_a_folder_is_listed_in_sorted_order_without_hidden_files(corpus):
    expected = ["a-b/x.py", "a/y.jsonl.zst", "a/z.jsonl", "b.txt"]
    assert names([corpus]) == names(["corpus"]) == names(["./corpus//"]) == expected


def test_names_tell_nothing_of_where_the_corpus_lies(corpus, monkeypatch):
    monkeypatch.chdir(corpus / "a")
    assert names([corpus / "b.txt"]) == names(["../b.txt"]) == ["b.txt"]
    assert names([".", "../a-b"]) == ["a/y.jsonl.zst", "a/z.jsonl", "a-b/x.py"]


def test_several_folders_keep_their_names_and_the_order_given(corpus):
    assert names(["corpus/b.txt", "corpus/a"]) == [
        "corpus/b.txt",
        "corpus/a/y.jsonl.zst",
        "corpus/a/z.jsonl",
    ]


def test_layout_and_compression_come_from_the_suffixes(corpus):
    found = {source.name: source for source in list_sources(["corpus"])}
    assert (found["a/y.jsonl.zst"].layout, found["a/y.jsonl.zst"].compression) == ("jsonl", ".zst")
    assert found["a-b/x.py"].layout == found["b.txt"].layout == "text"
    assert {source.layout for source in list_sources(["corpus"], "lines")} == {"lines"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl*", ["a/y.jsonl.zst", "a/z.jsonl"]),
        ("a/*.jsonl", ["a/z.jsonl"]),
        ("b.*", ["b.txt"]),
    ],
)
def test_globs_choose_by_name_or_by_path(corpus, pattern, expected):
    assert names(["corpus"], globs=[pattern]) == expected


def test_suffixes_in_capitals_mean_the_same(corpus):
    (corpus / "LOUD.JSONL.GZ").write_bytes(b"")
    (source,) = list_sources([str(corpus / "LOUD.JSONL.GZ")])
    assert (source.layout, source.compression) == ("jsonl", ".gz")


def test_globs_after_an_exclamation_mark_leave_out(corpus):
    assert names(["corpus"], globs=["!*/a/*"]) == ["a-b/x.py", "b.txt"]
    assert names(["corpus"], globs=["*.jsonl", "*.py", "!z.*"]) == ["a-b/x.py"]


def test_a_quoted_glob_is_expanded(corpus):
    assert names(["corpus/*/*.jsonl*"]) == ["corpus/a/y.jsonl.zst", "corpus/a/z.jsonl"]


def test_links_are_followed_but_never_in_a_circle(corpus):
    (corpus / "a" / "up").symlink_to(corpus)
    (corpus / "link.txt").symlink_to(corpus / "b.txt")
    assert names(["corpus"]) == ["a-b/x.py", "a/y.jsonl.zst", "a/z.jsonl", "b.txt", "link.txt"]


def test_a_link_to_itself_is_listed_like_any_that_leads_nowhere(corpus):
    (corpus / "b.txt.link").symlink_to(corpus / "b.txt.link")
    assert "b.txt.link" in names(["corpus"])


def test_an_output_within_the_corpus_is_no_input(corpus):
    assert names(["corpus"], exclude={corpus / "a", corpus / "b.txt"}) == ["a-b/x.py"]


def test_a_name_that_is_not_utf8_becomes_one(corpus):
    with open(os.fsencode(corpus) + b"/\xff.txt", "w") as file:
        file.write("text")
    assert names(["corpus"])[-1] == "\\xff.txt"


def test_a_file_named_twice_is_refused(corpus):
    with pytest.raises(UsageError, match=r"named twice: .*b\.txt"):
        names(["corpus", "corpus/b.txt"])


@pytest.mark.parametrize("inputs", [["missing"], ["missing/*.txt"], ["empty"]])
def test_nothing_to_read_is_an_error(corpus, inputs):
    (corpus.parent / "empty").mkdir()
    with pytest.raises(DataError):
        names(inputs)


def test_a_pattern_that_nothing_fits_is_named(corpus):
    with pytest.raises(DataError, match=r"no input files with a name like \*\.rst in corpus"):
        names(["corpus"], globs=["*.rst"])


def test_hub_and_stdin_are_streams():
    hub, stdin = list_sources(["hf:owner/name#train", "-"])
    assert (hub.layout, hub.is_stream, stdin.layout, stdin.is_stream) == ("hub", True, "text", True)
