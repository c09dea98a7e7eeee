"""`illada tokenize --part` and `--merge` in a shell."""

import json

import pytest

from tests.cli.corpus import TOKENIZE

MADE = (*TOKENIZE, "-o", "tokens", "--shard-tokens", "100")


def test_parts_and_a_merge_make_what_one_run_makes(corpus, illada, tmp_path):
    illada(*TOKENIZE, "-o", "whole", "--shard-tokens", "100")
    last = illada(*MADE, "--part", "1/2")
    assert last.stdout == "tokens\n"
    assert "part 1/2: 1 document, " in last.stderr
    assert "the same command with --merge ends the work" in last.stderr
    early = illada(*MADE, "--merge", code=1)
    assert "illada: 1 of 2 partitions are not finished: 0\n" in early.stderr
    unfinished = illada("pack", "tokens", code=1)
    assert "no dataset at tokens" in unfinished.stderr
    part = json.loads(illada(*MADE, "--part", "0/2", "--json").stdout)
    assert (part["output"], part["part"], part["documents"]) == ("tokens", "0/2", 1)
    merged = json.loads(illada(*MADE, "--merge", "--json").stdout)
    assert (merged["documents"], merged["was_complete"]) == (2, False)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "tokens" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "tokens").iterdir())) == len(list((tmp_path / "whole").iterdir()))
    again = illada(*MADE, "--part", "0/2")
    assert "complete already: 2 documents" in again.stderr


def test_a_dry_run_tells_the_partitions(corpus, illada):
    assert json.loads(illada(*MADE, "-n", "--json").stdout)["partitions"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--part", "2/2"), "--part wants i/n, not '2/2'"),
        (("--part", "x"), "--part wants i/n, not 'x'"),
        (("--part", "0/0"), "--part wants i/n, not '0/0'"),
        (("--part", "0/2", "--merge"), "--part does a part of the work"),
        (("--part", "0/2", "--fresh"), "--part never replaces what other parts have written"),
        (("--merge", "--fresh"), "--merge never replaces"),
    ],
)
def test_what_parts_cannot_mean_is_refused(corpus, illada, tmp_path, options, said):
    assert f"illada: {said}" in illada(*MADE, *options, code=2).stderr
    assert not (tmp_path / "tokens").exists()


def test_parts_are_of_datasets_in_a_folder(corpus, illada):
    assert "--part is for datasets" in illada(*TOKENIZE, "--part", "0/2", code=2).stderr
    assert "--merge is for datasets" in illada(*TOKENIZE, "--merge", code=2).stderr


def test_parts_with_other_settings_are_refused(corpus, illada):
    illada(*MADE, "--part", "0/2")
    other = illada(*MADE[:-1], "99", "--part", "1/2", code=2)
    assert "tokens was begun from other inputs, or with other settings" in other.stderr


def test_a_stream_has_no_parts(corpus, illada):
    piped = ("tokenize", "-", "--tokenizer", "tokenizer.json", "-o", "tokens")
    assert "- is a stream" in illada(*piped, "--part", "0/2", stdin="text", code=2).stderr
