"""The reader printed in docs/formats.md reads what we write."""

import re
from pathlib import Path

import numpy as np
import pytest

from illada_core.data.pack.plan import PackSettings
from illada_core.data.pack.write import pack
from illada_core.data.store.dataset import open_packed
from illada_core.data.store.shards import TokenShardWriter, shard_name
from illada_core.data.store.turns import spans_of

FORMATS = Path(__file__).resolve().parents[3] / "docs" / "formats.md"


def documented():
    """Return the functions that docs/formats.md prints."""
    (code,) = re.findall(r"```python\n(.*?)```", FORMATS.read_text(), re.DOTALL)
    functions = {}
    exec(code, functions)
    return functions


@pytest.mark.parametrize("vocab_size", [300, 70_000])
@pytest.mark.parametrize("mode", ["stream", "fit"])
def test_the_documented_reader_reads_rows(write_tokens, tmp_path, vocab_size, mode):
    generator = np.random.default_rng(0)
    documents = [
        generator.integers(0, vocab_size, length, dtype=np.uint32)
        for length in generator.integers(1, 3_000, 200)
    ]
    source = write_tokens(documents, vocab_size, shards=2)
    settings = PackSettings(512, mode, "document", shuffle=True, seed=0, holdout=0.1)
    list(pack(source, tmp_path / "packed", settings))
    for dataset in open_packed(tmp_path / "packed"):
        rows = list(documented()["read_rows"](dataset.folder))
        assert len(rows) == dataset.rows
        for number, segments in enumerate(rows):
            row = dataset.row(number)
            np.testing.assert_array_equal(np.concatenate(segments), row.ids)
            assert np.cumsum([len(part) for part in segments]).tolist() == row.segment_ends.tolist()


def test_the_documented_reader_reads_turns(tmp_path):
    turns = np.array([0, 0, 1, 1, 0, 2, 0, 1], np.uint16)
    path = tmp_path / shard_name(0, 300)
    with TokenShardWriter(path, 300, "job") as writer:
        ends, none = np.array([6, 8]), np.zeros(2, np.int64)
        writer.add_documents(np.arange(8, dtype=np.uint32), ends, none, none)
        writer.add_spans(*spans_of(turns, ends))
        writer.close()
    _, arrays = documented()["read_shard"](path)
    read = np.repeat(arrays["span_turns"], arrays["span_lengths"].astype(int))
    np.testing.assert_array_equal(read, turns)
