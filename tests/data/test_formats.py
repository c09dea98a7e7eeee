"""The reader printed in docs/formats.md reads what we write."""

import re
from pathlib import Path

import numpy as np
import pytest

from illada_core.data.dataset import open_packed
from illada_core.data.packed import PackSettings, pack

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


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
    (code,) = re.findall(r"```python\n(.*?)```", FORMATS.read_text(), re.DOTALL)
    documented = {}
    exec(code, documented)
    for dataset in open_packed(tmp_path / "packed"):
        rows = list(documented["read_rows"](dataset.folder))
        assert len(rows) == dataset.rows
        for number, segments in enumerate(rows):
            row = dataset.row(number)
            np.testing.assert_array_equal(np.concatenate(segments), row.ids)
            assert np.cumsum([len(part) for part in segments]).tolist() == row.segment_ends.tolist()
