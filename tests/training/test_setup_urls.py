"""A recipe whose data is at a URL is the recipe whose data is here."""

import fsspec
import numpy as np

from illada_core.training.mixing import shares
from illada_core.training.setup import prepare
from tests.training.tiny import tiny_recipe, write_packed


def test_rows_at_a_url_are_the_rows_here(tmp_path, monkeypatch):
    monkeypatch.setenv("ILLADA_CACHE", str(tmp_path / "cache"))
    here = write_packed(tmp_path / "web")
    memory, url = fsspec.filesystem("memory"), "memory://rows/web"
    memory.put(str(here), "/rows/web", recursive=True)
    own, far = prepare(tiny_recipe(here)), prepare(tiny_recipe(url))
    for mine, theirs in ((own.train, far.train), (own.holdout, far.holdout)):
        assert mine.fingerprint == theirs.fingerprint
        assert mine.rows == theirs.rows
        for number in range(mine.rows):
            assert np.array_equal(mine.row(number).ids, theirs.row(number).ids)
    assert far.tokenizer_file.read_bytes() == own.tokenizer_file.read_bytes()
    assert far.holdout_bytes_per_token == own.holdout_bytes_per_token
    mixture = f'data.mixture=["{url}=1"]'
    mixed = prepare(tiny_recipe("", mixture, f"data.holdout={url}"))
    assert shares(mixed)[0]["folder"] == f"{url}/train"
    monkeypatch.setenv("ILLADA_CACHE_GB", "0")
    assert f"the data at {url}/train takes more room than copies may" in "\n".join(
        prepare(tiny_recipe(url)).remarks
    )
    memory.rm("/rows", recursive=True)
