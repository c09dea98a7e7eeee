"""Whatever the files of a dataset say: it is read, or one sentence names its folder."""

import json
import shutil

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from illada_core.data.build.journal import Journal, journal_path
from illada_core.data.build.partitions import Partition
from illada_core.data.store.dataset import open_parts
from illada_core.data.store.frames import (
    INDEX_HEADER_SIZE,
    INDEX_MAGIC,
    SKIPPABLE_HEADER,
    inflate,
    pack_seek_table,
)
from illada_core.data.store.manifest import FORMAT, FORMAT_VERSION, fingerprint_of
from illada_core.data.store.shards import ShardReader
from illada_core.data.store.verify import describe, verify
from tests.fuzz.hostile import decode_or_refuse, fuzzed, hostile_bytes, hostile_json
from tests.training.tiny import VOCABULARY, write_conversations, write_packed


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = write_packed(tmp_path_factory.mktemp("data") / "packed", write=write_conversations)
    parts = {}
    for part in ("train", "validation"):
        path = folder / part / "manifest.json"
        fields = json.loads(path.read_text())
        path.write_text(
            signed(json.dumps({**fields, "settings": {"chat": True, "sequence_length": 32}}))
        )
        parts[part] = json.loads(path.read_text())["fingerprint"]
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(signed(json.dumps({**fields, "parts": parts})))
    read(folder)  # as it is it can be read
    return folder


def read(folder):
    """Read all there is of a dataset, as `pack --stats` and `--verify` and training do."""
    for dataset in open_parts(folder).values():
        describe(dataset)
        assert list(verify(dataset)) is not None
        for number in range(min(dataset.rows, 100)):
            dataset.row(number)
        for ends in dataset.document_ends():
            ends.tolist()


def signed(text):
    """Give a manifest the fingerprint that belongs to it, if it has one."""
    try:
        fields = json.loads(text)
        del fields["fingerprint"]
        fields = {"format": FORMAT, "version": FORMAT_VERSION, **fields}
        return json.dumps({**fields, "fingerprint": fingerprint_of(fields)})
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


@pytest.mark.parametrize("name", ["manifest.json", "train/manifest.json"])
@fuzzed(25)
@given(data=st.data())
def test_any_manifest(packed, name, data):
    before = (packed / name).read_bytes()
    try:
        text = data.draw(hostile_json(json.loads(before)))
        (packed / name).write_text(signed(text) if data.draw(st.booleans()) else text)
        decode_or_refuse(lambda: read(packed), packed)
    finally:
        (packed / name).write_bytes(before)


def with_index(shard, change):
    """Return the bytes of a shard whose index has another payload."""
    data = shard.read_bytes()
    reader = ShardReader(shard, 2)
    start, frames = sum(size for size, _ in reader._sizes), reader._sizes
    index = data[start : start + reader._index_bytes]
    reader.close()
    payload = change(inflate(index[SKIPPABLE_HEADER.size :], 0, 1 << 24))
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(payload)
    index = SKIPPABLE_HEADER.pack(INDEX_MAGIC, len(frame)) + frame
    return data[:start] + index + pack_seek_table([*frames, (len(index), 0)])


def read_shard(path):
    reader = ShardReader(path, 2)
    try:
        index = reader.index
        assert all(len(vars(index)[name]) >= 0 for name in vars(index))
        for frame in range(reader.frames):
            reader.stored(frame)
    finally:
        reader.close()


@fuzzed(40)
@given(data=st.data())
def test_any_index_of_a_shard(packed, tmp_path_factory, data):
    (shard,) = (packed / "train").glob("shard-*")
    path = tmp_path_factory.getbasetemp() / "hostile.u16.zst"

    def change(payload):
        (size,) = INDEX_HEADER_SIZE.unpack_from(payload)
        header, arrays = payload[4 : 4 + size], payload[4 + size :]
        if data.draw(st.booleans()):
            header = data.draw(hostile_json(json.loads(header))).encode("utf-8", "surrogatepass")
        else:
            arrays = data.draw(hostile_bytes(arrays))
        return INDEX_HEADER_SIZE.pack(len(header)) + header + arrays

    path.write_bytes(with_index(shard, change))
    decode_or_refuse(lambda: read_shard(path), path)


@fuzzed(40)
@given(data=st.data())
def test_any_bytes_of_a_shard(packed, tmp_path_factory, data):
    (shard,) = (packed / "train").glob("shard-*")
    path = tmp_path_factory.getbasetemp() / "hostile.u16.zst"
    path.write_bytes(data.draw(hostile_bytes(shard.read_bytes())))
    decode_or_refuse(lambda: read_shard(path), path)


def test_an_index_that_inflates_without_end_is_not_believed(packed, tmp_path):
    """A few frames of data that are there, and a few hundred KB that ask for gigabytes."""
    (shard,) = (packed / "train").glob("shard-*")
    path = tmp_path / shard.name
    path.write_bytes(with_index(shard, lambda payload: payload + bytes(300 << 20)))
    assert path.stat().st_size < 100_000
    decode_or_refuse(lambda: read_shard(path), path)
    frames = [zstandard.compress(bytes(2 * 131_072))] * 500
    index = zstandard.compress(bytes(300 << 20))
    index = SKIPPABLE_HEADER.pack(INDEX_MAGIC, len(index)) + index
    sizes = [(len(frame), 2 * 131_072) for frame in frames]
    path.write_bytes(b"".join(frames) + index + pack_seek_table([*sizes, (len(index), 0)]))
    told = decode_or_refuse(lambda: ShardReader(path, 2).index, path)
    assert "promises" in told


STAGE = {"position": [3, 0], "text_bytes": 9, "skipped": {"binary": 1}, "digests": [[1, "a"]]}


@fuzzed(40)
@given(data=st.data())
def test_any_journal(packed, tmp_path_factory, data):
    folder, whole = tmp_path_factory.mktemp("journal"), Partition(0, 0, 3)
    (shard,) = (packed / "train").glob("shard-*")
    shutil.copyfile(shard, folder / shard.name)
    lines = [json.dumps({"job": "job"}), json.dumps({**STAGE, "cut": 0})]
    number = data.draw(st.integers(0, 1))
    lines[number] = data.draw(hostile_json(json.loads(lines[number])))
    journal_path(folder, whole).write_text("\n".join(lines) + "\n")

    def take_up():
        with Journal(folder, whole, "job", VOCABULARY) as journal:
            assert np.all(np.array(journal.position) >= 0)

    decode_or_refuse(take_up, folder)
