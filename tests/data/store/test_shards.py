"""A dataset gives back what was written, says which frame is damaged, is complete or absent."""

import hashlib
import io
import json
import shutil
import subprocess
from contextlib import suppress

import numpy as np
import pytest
import zstandard

from illada_core.data.store.dataset import open_dataset, open_packed
from illada_core.data.store.frames import (
    FRAME_TOKENS,
    INDEX_MAGIC,
    SKIPPABLE_HEADER,
    narrow,
    unpack_index,
    widen,
)
from illada_core.data.store.index import index_of
from illada_core.data.store.manifest import fingerprint_of, write_manifest_file
from illada_core.data.store.shards import TokenShardWriter, finished_shard, first_misnamed
from illada_core.errors import DataError, UsageError

NOTHING = np.empty(0, np.int64)


def random_documents(count, vocab_size, longest=5000):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, longest, count)
    return [generator.integers(0, vocab_size, length, dtype=np.uint32) for length in lengths]


@pytest.fixture(params=[65_536, 65_537, 200_000], ids=["u16", "u24-just", "u24"])
def dataset_and_documents(request, write_tokens):
    documents = random_documents(200, request.param)
    return write_tokens(documents, request.param, shards=3), documents


@pytest.fixture
def small_dataset(write_tokens):
    return write_tokens(random_documents(10, 300, longest=30), 300)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, FRAME_TOKENS])
@pytest.mark.parametrize("token_bytes", [2, 3])
def test_stored_tokens_are_little_endian_and_come_back(count, token_bytes):
    ids = np.random.default_rng(0).integers(0, 2 ** (8 * token_bytes), count, dtype=np.uint32)
    stored = narrow(ids, token_bytes)
    assert stored.tobytes() == b"".join(int(i).to_bytes(token_bytes, "little") for i in ids)
    np.testing.assert_array_equal(widen(stored, token_bytes), ids)


def test_every_range_of_tokens_is_read_as_written(dataset_and_documents):
    dataset, documents = dataset_and_documents
    tokens = np.concatenate(documents)
    assert (dataset.tokens, dataset.documents) == (len(tokens), len(documents))
    generator = np.random.default_rng(1)
    for start, stop in np.sort(generator.integers(0, len(tokens) + 1, (50, 2)), axis=1).tolist():
        np.testing.assert_array_equal(dataset.read(start, stop), tokens[start:stop])


def test_documents_end_where_they_were_ended(dataset_and_documents):
    dataset, documents = dataset_and_documents
    ends = np.concatenate(list(dataset.document_ends()))
    np.testing.assert_array_equal(ends, np.cumsum([len(document) for document in documents]))
    records = np.concatenate([index.document_records for index in dataset.indexes()])
    np.testing.assert_array_equal(records, np.arange(len(documents)))


def test_document_hashes_are_those_of_the_stored_tokens(dataset_and_documents):
    dataset, documents = dataset_and_documents
    hashes = np.concatenate([index.document_hashes for index in dataset.indexes()])
    for document, found in zip(documents, hashes, strict=True):
        digest = hashlib.sha256(narrow(document, dataset.token_bytes).tobytes()).digest()
        assert int(found) == int.from_bytes(digest[:8], "little")


def test_a_zstd_stream_reader_inflates_a_shard_to_the_flat_array(dataset_and_documents):
    dataset, documents = dataset_and_documents
    flat = b""
    for shard in dataset.manifest.shards:
        file = io.BytesIO((dataset.folder / shard.name).read_bytes())
        flat += zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    assert flat == narrow(np.concatenate(documents), dataset.token_bytes).tobytes()


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd program here")
def test_the_zstd_program_opens_a_shard(dataset_and_documents):
    dataset, documents = dataset_and_documents
    shard = dataset.manifest.shards[0]
    done = subprocess.run(
        ["zstd", "-dc", dataset.folder / shard.name], capture_output=True, check=True
    )
    expected = narrow(np.concatenate(documents)[: shard.tokens], dataset.token_bytes)
    assert done.stdout == expected.tobytes()


def test_a_shard_does_not_depend_on_how_its_tokens_are_handed_over(tmp_path):
    ids = np.random.default_rng(0).integers(0, 200_000, 3 * FRAME_TOKENS + 17, dtype=np.uint32)
    one = np.zeros(1, np.int64)
    entries = []
    for name, cuts in (("whole", []), ("parts", [1, 5, FRAME_TOKENS, 2 * FRAME_TOKENS + 3])):
        with TokenShardWriter(tmp_path / name, 200_000, "job") as writer:
            *parts, last = np.split(ids, cuts)
            for part in parts:
                writer.add_documents(part, NOTHING, NOTHING, NOTHING)
            writer.add_documents(last, np.array([len(last)]), one, one)
            entries.append(writer.close())
    assert entries[0].sha256 == entries[1].sha256
    assert entries[0].sha256 == hashlib.sha256((tmp_path / "whole").read_bytes()).hexdigest()


def test_a_finished_shard_is_recognised_by_itself(dataset_and_documents):
    dataset, _ = dataset_and_documents
    entry = dataset.manifest.shards[1]
    path = dataset.folder / entry.name
    assert finished_shard(path, dataset.vocab_size, "job") == entry
    assert finished_shard(path.with_name("other"), dataset.vocab_size, "job") is None
    with pytest.raises(UsageError, match="made with other settings"):
        finished_shard(path, dataset.vocab_size, "another job")


def test_an_unfinished_shard_leaves_nothing_behind(tmp_path):
    writer = TokenShardWriter(tmp_path / "shard", 100, "job")
    assert [path.name for path in tmp_path.iterdir()] == ["shard.partial"]
    with pytest.raises(RuntimeError), writer:
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_flipped_byte_is_found_in_its_frame(write_tokens):
    dataset = write_tokens(random_documents(300, 1000), 1000)
    path = dataset.folder / dataset.manifest.shards[0].name
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)
    damaged = open_dataset(dataset.folder)
    frame = damaged.tokens * 3 // 4 // FRAME_TOKENS
    damaged.read(0, frame * FRAME_TOKENS)
    with pytest.raises(DataError, match=rf"shard-000000\.u16\.zst, frame {frame}:"):
        damaged.read(frame * FRAME_TOKENS, frame * FRAME_TOKENS + 1)


def test_a_flipped_bit_never_changes_what_is_read(small_dataset):
    path = small_dataset.folder / small_dataset.manifest.shards[0].name
    good, tokens = path.read_bytes(), small_dataset.read(0, small_dataset.tokens)
    for position in range(len(good)):
        data = bytearray(good)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        with suppress(DataError):
            found = open_dataset(small_dataset.folder).read(0, len(tokens))
            np.testing.assert_array_equal(found, tokens)


def test_a_truncated_shard_is_an_error(small_dataset):
    path = small_dataset.folder / small_dataset.manifest.shards[0].name
    good = path.read_bytes()
    for size in range(0, len(good), 7):
        path.write_bytes(good[:size])
        with pytest.raises(DataError, match="shard-000000"):
            finished_shard(path, 300, "job")
    with pytest.raises(DataError, match="promises"):
        open_dataset(small_dataset.folder)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        open_dataset(small_dataset.folder)


def test_no_manifest_is_no_dataset(small_dataset):
    (small_dataset.folder / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"no manifest\.json") as caught:
        open_dataset(small_dataset.folder)
    assert "interrupted" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 3}, "format version 3, and this illada reads 1 and 2"),
        ({"tokens": 1}, "was changed"),
        ({"format": "other"}, "not the manifest"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(small_dataset, change, sentence):
    path = small_dataset.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=sentence):
        open_dataset(small_dataset.folder)


def test_a_dataset_of_version_1_is_read(small_dataset):
    path = small_dataset.folder / "manifest.json"
    fields = {**json.loads(path.read_text()), "version": 1}
    del fields["fingerprint"]
    path.write_text(json.dumps({**fields, "fingerprint": fingerprint_of(fields)}))
    found = open_dataset(small_dataset.folder)
    tokens = small_dataset.tokens
    assert found.read(0, tokens).tolist() == small_dataset.read(0, tokens).tolist()


@pytest.mark.parametrize(
    ("places", "wrong"),
    [
        ("", None),
        ("000000 000001 000002", None),
        ("000000-0000 000000-0001 000003-0000", None),
        ("000002-0000", None),
        ("000001", 0),
        ("000000 000000", 1),
        ("000000 000002", 1),
        ("000000-0000 000000-0000", 1),
        ("000000-0000 000000-0002", 1),
        ("000000-0001", 0),
        ("000001-0000 000000-0000", 1),
        ("000001-0000 000000-0001", 1),
        ("000000-0000 000001", 1),
        ("0000000-0000", 0),
        ("000000-00000", 0),
        ("../000000", 0),
    ],
)
def test_shards_rise_without_gaps_in_a_dataset_and_in_its_partitions(places, wrong):
    names = [f"shard-{place}.u16.zst" for place in places.split()]
    assert first_misnamed(names, 300) == (None if wrong is None else names[wrong])
    assert first_misnamed([name.replace("u16", "u24") for name in names], 300) == (
        None if not names else names[0].replace("u16", "u24")
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_a_manifest_that_is_none_is_refused(small_dataset, text):
    (small_dataset.folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json (is not|holds no)"):
        open_dataset(small_dataset.folder)


def rewrite_manifest(folder, change):
    """Write a manifest anew, changed, with the fingerprint that belongs to it."""
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["fingerprint"]
    change(fields)
    kept = {name: value for name, value in fields.items() if name not in ("format", "version")}
    write_manifest_file(folder, kept)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "shard-000000.u16.zst/..", "", "x"])
def test_a_manifest_names_no_file_that_is_no_shard_of_its_folder(small_dataset, name):
    rewrite_manifest(small_dataset.folder, lambda fields: fields["shards"][0].update(name=name))
    with pytest.raises(DataError, match=r"manifest\.json names"):
        open_dataset(small_dataset.folder)


@pytest.mark.parametrize("name", ["shard-000001.u16.zst", "shard-000000.u16.zst.partial"])
def test_shards_have_the_names_of_their_numbers_and_are_finished(small_dataset, name):
    """Else one could be there twice, or half of one be read."""
    (small_dataset.folder / "shard-000000.u16.zst").rename(small_dataset.folder / name)
    rewrite_manifest(small_dataset.folder, lambda fields: fields["shards"][0].update(name=name))
    with pytest.raises(DataError, match=r"manifest\.json names"):
        open_dataset(small_dataset.folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda fields: fields.update(kind="other"), "not one of documents, rows"),
        (lambda fields: fields["tokenizer"]["special"].update(mask=300), "mask is 300"),
        (lambda fields: fields["tokenizer"]["special"].update(eos=-1), "eos is -1"),
        (lambda fields: fields.update(documents=9), "9 documents are said to be"),
        (lambda fields: fields["shards"][0].update(tokens="5"), "lacks what a manifest says"),
        (lambda fields: fields["inputs"][0].update(bytes=-1), "lacks what a manifest says"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_one_sentence(small_dataset, change, sentence):
    rewrite_manifest(small_dataset.folder, change)
    with pytest.raises(DataError, match=sentence):
        open_dataset(small_dataset.folder)


@pytest.mark.parametrize("parts", [{}, {"validation": "x"}, {"../train": "x"}, ["train"], None])
def test_parts_are_train_and_validation_in_the_folder(small_dataset, tmp_path, parts):
    folder = tmp_path / "packed"
    folder.mkdir()
    write_manifest_file(folder, {"kind": "parts", "parts": parts})
    for opened in (open_packed, open_dataset):
        with pytest.raises(DataError, match="names parts that there are not"):
            opened(folder)


def test_a_part_holds_rows(small_dataset, tmp_path):
    packed = tmp_path / "packed"
    shutil.copytree(small_dataset.folder, packed / "train")
    write_manifest_file(packed, {"kind": "parts", "parts": {"train": small_dataset.fingerprint}})
    with pytest.raises(DataError, match="holds no rows"):
        open_packed(packed)


def test_an_id_that_the_vocabulary_lacks_is_damage_where_it_is_read(small_dataset):
    """The shard is sound; the manifest beside it is of a smaller vocabulary."""
    largest = int(small_dataset.read(0, small_dataset.tokens).max())
    rewrite_manifest(
        small_dataset.folder, lambda fields: fields["tokenizer"].update(vocab_size=largest)
    )
    dataset = open_dataset(small_dataset.folder)
    with pytest.raises(DataError, match=f"frame 0: id {largest} in a vocabulary of {largest}"):
        dataset.read(0, dataset.tokens)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"document_lengths": [0, 10]}, "documents are not of 1 to 10 tokens"),
        ({"document_lengths": [2**64 - 5, 15]}, "documents are not of 1 to 10 tokens"),
        ({"document_lengths": [4, 6], "document_files": [0]}, "sources differ in number"),
        ({"segment_lengths": [7, 3]}, "a row ends inside a segment"),
        ({"document_lengths": [4, 6], "segment_lengths": [5, 5]}, "a row ends inside a document"),
        ({"row_lengths": [5, 4]}, "rows hold 9 tokens, not 10"),
    ],
)
def test_boundaries_that_cannot_be_are_damage(arrays, sentence):
    sound = {"document_lengths": [5, 5], "segment_lengths": [5, 5], "row_lengths": [5, 5]}
    sound |= {"document_files": [0, 0], "document_records": [0, 1]}
    as_stored = {name: np.array(v, np.uint64) for name, v in {**sound, **arrays}.items()}
    with pytest.raises(DataError, match=sentence):
        index_of(as_stored, 10)


@pytest.mark.parametrize("key", ["tokenizer", "inputs", "shards", "settings"])
@pytest.mark.parametrize("value", [None, 5, [5], "text"])
def test_a_manifest_of_another_shape_is_one_sentence(small_dataset, key, value):
    rewrite_manifest(small_dataset.folder, lambda fields: fields.update({key: value}))
    with pytest.raises(DataError, match=r"manifest\.json"):
        open_dataset(small_dataset.folder)


def test_an_index_may_not_ask_for_more_memory_than_its_tokens_can_need():
    header = json.dumps({"version": 1, "arrays": []}).encode()
    payload = len(header).to_bytes(4, "little") + header + bytes(1 << 28)
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(payload)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(payload)
    for bomb in (frame, unsized):
        assert len(bomb) < 1 << 16
        skippable = SKIPPABLE_HEADER.pack(INDEX_MAGIC, len(bomb)) + bomb
        with pytest.raises(DataError, match="belong at most"):
            unpack_index(skippable, tokens=1000)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\x02\x00\x00\x00{}",
        b"\x02\x00\x00\x00[]",
        b"\x03\x00\x00\x00{{{",
        b'\x2b\x00\x00\x00{"version": 1, "arrays": [["a", 1000000000]]}',
    ],
)
def test_an_index_of_any_bytes_is_sound_or_a_data_error(payload):
    frame = zstandard.ZstdCompressor().compress(payload)
    with pytest.raises(DataError):
        unpack_index(SKIPPABLE_HEADER.pack(INDEX_MAGIC, len(frame)) + frame, tokens=10)
