"""`--fresh` removes a dataset, whole or half made, and nothing else."""

import contextlib
from pathlib import Path

import pytest

from illada_core.data.build.documents import tokenize_corpus
from illada_core.data.build.journal import clear_earlier_run, is_unfinished
from illada_core.errors import UsageError
from tests.data.build.test_documents import JOURNAL, corpus, files_of, job_of  # noqa: F401


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", '{"name": "a web page"}'),
        ("manifest.json", "[1]"),
        ("manifest.json", "not JSON"),
        (JOURNAL, "somebody else's"),
    ],
)
def test_starting_over_touches_no_folder_of_something_else(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    (tmp_path / "up.partial").write_text("mine")
    (tmp_path / "shard-000000-0000.u16.zst").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(UsageError, match=f"{name} is not of a dataset"):
        clear_earlier_run(tmp_path)
    assert files_of(tmp_path) == before


def test_starting_over_removes_what_a_dataset_consists_of_wherever_it_is_interrupted(
    corpus,  # noqa: F811
    tokenizer_file,
    tmp_path,
    monkeypatch,
):
    job, folder = job_of(corpus[0], tokenizer_file), tmp_path / "tokens"
    list(tokenize_corpus(job, folder, 1))
    (folder / "notes.txt").write_text("mine")
    (folder / "movie.partial").write_text("mine")
    unlink, killed = Path.unlink, 0
    while (folder / "manifest.json").exists() or is_unfinished(folder):
        # Each time the next removal is the last thing that happens.
        left = iter([True])

        def once(path, missing_ok=False, left=left):
            if path.exists() and not next(left, False):
                raise KeyboardInterrupt
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", once)
        with contextlib.suppress(KeyboardInterrupt):
            clear_earlier_run(folder)
        monkeypatch.undo()
        killed += 1
    assert killed > 2
    kept = {"tokenizer.json", "tokenizer_config.json", "notes.txt", "movie.partial"}
    assert set(files_of(folder)) == kept
