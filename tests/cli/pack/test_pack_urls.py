"""`illada pack` of datasets at URLs (file://, which needs no network)."""

import json

import pytest

from tests.cli.corpus import TOKENIZE

ROWS = ("--sequence-length", "16", "--holdout", "0")


@pytest.fixture
def url(tmp_path, monkeypatch):
    """The URL of the folder that a test works in."""
    monkeypatch.setenv("ILLADA_CACHE", str(tmp_path / "cache"))
    return tmp_path.as_uri()


def test_a_dataset_at_a_url_is_packed_described_and_checked(corpus, illada, tmp_path, url):
    illada(*TOKENIZE, "-o", "tokens")
    illada("pack", "tokens", "-o", "here", *ROWS)
    made = illada("pack", f"{url}/tokens", "-o", f"{url}/there", *ROWS)
    assert made.stdout == f"{url}/there\n"
    assert "train: " in made.stderr
    for path in (tmp_path / "here").rglob("*.*"):
        assert (tmp_path / "there" / path.relative_to(tmp_path / "here")).read_bytes() == (
            path.read_bytes()
        )
    stats = illada("pack", "--stats", f"{url}/here", "--json").stdout.splitlines()
    here = illada("pack", "--stats", "here", "--json").stdout.splitlines()
    assert [json.loads(line)["dataset"] for line in stats] == [f"{url}/here/train"]
    assert [{**json.loads(line), "dataset": 0} for line in stats] == [
        {**json.loads(line), "dataset": 0} for line in here
    ]
    assert f"{url}/here/train: " in illada("pack", "--verify", f"{url}/here").stdout
    shard = tmp_path / "here" / "train" / "shard-000000.u16.zst"
    shard.write_bytes(bytes(shard.stat().st_size))
    damaged = illada("pack", "--verify", f"{url}/here", code=1)
    assert f"{url}/here/train/shard-000000.u16.zst: its sha256" in damaged.stdout
    assert f"illada: 1 problem in {url}/here" in damaged.stderr
    assert "no dataset at" in illada("pack", "--stats", f"{url}/none", code=1).stderr
    assert "a URL gives the output no name" in illada("pack", f"{url}/tokens", code=2).stderr
