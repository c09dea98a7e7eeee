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


@pytest.mark.parametrize("writing", [files.writing_file, files.writing_folder])
def test_an_output_has_one_writer_at_a_time_and_no_lock_is_left(tmp_path, writing):
    for _ in range(2):
        with (
            writing(tmp_path / "output"),
            pytest.raises(DataError, match=r"another run is writing .*output"),
            writing(tmp_path / "output"),
        ):
            pass
    assert [path for path in tmp_path.rglob("*") if files.LOCK in path.name] == []


def test_one_file_has_one_lock_whatever_it_is_called(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with (
        files.writing_file(tmp_path / "link"),
        pytest.raises(DataError, match="another run is writing"),
        files.writing_file(tmp_path / "folder" / ".." / "file"),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free_and_its_file_goes(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from illada_core import files\n"
        "with files.writing_folder(Path(sys.argv[1])), files.writing_file(Path('file')):\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, check=False)
    assert names_in(tmp_path) == [".file.illada-lock", ".illada-lock"]
    assert files.is_being_written(tmp_path)
    with files.writing_folder(tmp_path), files.writing_file(tmp_path / "file"):
        pass
    assert names_in(tmp_path) == []


def test_who_locks_a_file_that_has_lost_its_name_does_not_hold_the_lock(tmp_path, monkeypatch):
    """Between opening and locking, the holder takes the name away and a third makes it anew."""
    lock, lock_file, third = tmp_path / files.LOCK, files.lock_file, []

    def lock_late(file, output, waits=False):
        if not third:
            lock.unlink()
            third.append(open(lock, "a"))  # noqa: SIM115 (closed below)
            lock_file(third[0], output)
        lock_file(file, output)

    monkeypatch.setattr(files, "lock_file", lock_late)
    with pytest.raises(DataError, match="another run"), files.writing_folder(tmp_path):
        pass
    assert lock.exists(), "it is the third's"
    third[0].close()
    with files.writing_folder(tmp_path):
        pass
    assert names_in(tmp_path) == []


def test_many_processes_never_write_at_once(tmp_path):
    """Each adds one to a number in a file, often, and lets the lock go in between."""
    code = (
        "import sys; from pathlib import Path; from illada_core import files, errors\n"
        "path, done = Path(sys.argv[1]), 0\n"
        "while done < 200:\n"
        "    try:\n"
        "        with files.writing_file(path):\n"
        "            path.write_text(str(int(path.read_text()) + 1))\n"
        "        done += 1\n"
        "    except errors.DataError: pass"
    )
    (tmp_path / "number").write_text("0")
    command = [sys.executable, "-c", code, str(tmp_path / "number")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "600"
    assert names_in(tmp_path) == ["number"]


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
