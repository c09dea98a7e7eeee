"""Files and folders are complete or absent, locks refuse, JSON is an object or an error."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis.strategies import binary, text

from illada_core import files
from illada_core.errors import CheckpointError, DataError


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_another_and_nothing_is_left_beside_it(tmp_path):
    for data in (b"one", b"two"):
        files.write_file(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert names_in(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    files.write_file(tmp_path / "file", b"one")
    code = (
        "import resource, signal, sys; from pathlib import Path; from illada_core import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "files.write_file(Path(sys.argv[1]), b'x' * 100)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"File too large: '{tmp_path / 'file'}'" in done.stderr
    assert (tmp_path / "file").read_bytes() == b"one"
    assert names_in(tmp_path) == ["file"]


def test_a_folder_replaces_another_as_a_whole(tmp_path):
    for name in ("one", "two"):
        with files.new_folder(tmp_path / "folder") as aside:
            (aside / "inner").mkdir()
            (aside / "inner" / name).write_text(name)
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder" / "inner") == ["two"]


def test_a_folder_that_cannot_be_filled_leaves_the_earlier_one(tmp_path):
    with files.new_folder(tmp_path / "folder") as aside:
        (aside / "one").write_text("1")

    def fill_half():
        with files.new_folder(tmp_path / "folder") as aside:
            (aside / "two").write_text("2")
            raise OSError(28, "No space left on device", "two")

    with pytest.raises(OSError, match="No space left") as caught:
        fill_half()
    assert caught.value.filename == str(tmp_path / "folder")
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder") == ["one"]


def test_a_folder_is_removed_and_one_that_is_not_there_is_no_error(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for _ in range(2):
        files.remove_folder(tmp_path / "folder")
        assert names_in(tmp_path) == []


def test_a_lock_refuses_with_the_error_it_is_given(tmp_path):
    with files.locking_folder(tmp_path):
        with pytest.raises(DataError, match="another run is writing"):
            files.locking_folder(tmp_path).__enter__()
        with (
            pytest.raises(CheckpointError, match="mine"),
            files.locking(tmp_path / "lock.partial", CheckpointError("mine")),
        ):
            pass
    assert names_in(tmp_path) == []
    with files.locking_folder(tmp_path):
        pass


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"a": [1, 2.5, None, True], "é": {"b": "\U0001f600"}}
    files.write_json(tmp_path / "file.json", value)
    assert files.read_json(tmp_path / "file.json") == value
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == value
    assert files.read_json(tmp_path / "none.json") == {}
    assert files.read_json(tmp_path / "file.json" / "none.json") == {}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not valid JSON"),
        (b'{"a": 1', "is not valid JSON"),
        (b"\xff\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[1]", "holds no JSON object"),
    ],
)
def test_what_is_no_json_object_is_told_in_one_sentence(tmp_path, data, sentence):
    path = tmp_path / "file.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=sentence) as caught:
        files.read_json(path)
    assert str(path) in caught.value.sentence
    with pytest.raises(CheckpointError, match=sentence):
        files.read_json(path, CheckpointError)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1e400}',
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"a": 1, "b": 2, "a": 3}',
        b"\xff",
        b"",
        b"[1]",
        b"5",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_json_that_another_reader_might_refuse_is_one_sentence_with_the_name(tmp_path, data):
    (tmp_path / "some.json").write_bytes(data)
    with pytest.raises(DataError, match=r"some\.json") as caught:
        files.read_json(tmp_path / "some.json")
    assert "\n" not in caught.value.sentence
    assert len(caught.value.sentence) < 400


@given(binary(max_size=60) | text(alphabet='{}[]",:0123456789.eE+-aN \\u', max_size=60))
def test_any_bytes_at_all_are_json_or_a_value_error(data):
    try:
        value = files.decode_json(data)
    except ValueError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value
