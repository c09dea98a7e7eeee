"""Laws 2 and 3 for rows: each once per epoch on any ranks, in an order without state."""

import threading
from itertools import islice

import numpy as np
import pytest

from illada_core.data.batches import (
    BLOCK_ROWS,
    WINDOW_BLOCKS,
    WINDOW_ROWS,
    Share,
    permute,
    read_batch,
    read_steps,
    row_at,
)
from illada_core.data.store.dataset import open_dataset
from illada_core.data.store.frames import narrow
from illada_core.data.store.manifest import Manifest, write_manifest
from illada_core.data.store.shards import RowChunk, TokenShardWriter, shard_name
from illada_core.data.store.turns import spans_of
from illada_core.errors import DataError
from illada_core.text.tokenizer_files import SpecialIds, TokenizerRecord

ROWS, VOCABULARY = 23, 1000


@pytest.fixture
def dataset(tmp_path):
    """Rows of 1 to 7 tokens; all tokens of row r are r, and its first token is a segment."""
    lengths = 1 + np.arange(ROWS) % 7
    segments = np.concatenate([[1, length - 1] if length > 1 else [1] for length in lengths])
    ids = np.repeat(np.arange(ROWS, dtype=np.uint32), lengths)
    none = np.zeros(ROWS, np.int64)
    with TokenShardWriter(tmp_path / shard_name(0, VOCABULARY), VOCABULARY, "job") as shard:
        shard.add_rows(RowChunk(narrow(ids, 2), lengths, segments, lengths, none, none, none))
        entry = shard.close()
    special = SpecialIds(bos=0, pad=1, eos=2, mask=5)
    record = TokenizerRecord("hash", VOCABULARY, special)
    write_manifest(tmp_path, Manifest("rows", record, (), {}, (entry,)))
    return open_dataset(tmp_path)


@pytest.fixture
def chat_dataset(tmp_path):
    """Rows of 1 to 7 tokens in two shards; token t of a row has turn t // 2 % 3."""
    lengths = 1 + np.arange(ROWS) % 7
    entries = []
    for shard, rows in enumerate((lengths[:10], lengths[10:])):
        turns = np.concatenate([np.arange(length) // 2 % 3 for length in rows]).astype(np.uint16)
        none = np.zeros(len(rows), np.int64)
        with TokenShardWriter(
            tmp_path / shard_name(shard, VOCABULARY), VOCABULARY, "job"
        ) as writer:
            ids = np.repeat(np.arange(len(rows), dtype=np.uint32), rows)
            writer.add_rows(RowChunk(narrow(ids, 2), rows, rows, rows, none, none, none))
            writer.add_spans(*spans_of(turns, np.cumsum(rows)))
            entries.append(writer.close())
    record = TokenizerRecord("hash", VOCABULARY, SpecialIds(bos=0, pad=1, eos=2, mask=5))
    write_manifest(tmp_path, Manifest("rows", record, (), {"chat": True}, tuple(entries)))
    return open_dataset(tmp_path)


def read_all(dataset, seed, first_step, share):
    """Read the batches of a share from a step on."""
    return read_steps(
        share, first_step, lambda places: places and read_batch(dataset, places, seed)
    )


def epoch_order(rows, seed, epoch):
    found = [row_at(epoch * rows + place, rows, seed) for place in range(rows)]
    assert all(each == epoch for each, _ in found)
    return [row for _, row in found]


@pytest.mark.parametrize("rows", [1, 2, 3, 63, 64, 65, 1023, 1024, 1025, 3333])
def test_an_epoch_holds_every_row_once(rows):
    for epoch in (0, 1, 5):
        assert sorted(epoch_order(rows, 7, epoch)) == list(range(rows))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(epoch_order(200, seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6


@pytest.mark.parametrize("size", [*range(1, 40), 1000, 1025])
def test_blocks_are_permuted(size):
    assert sorted(permute(np.arange(size), size, seed=3, epoch=1)) == list(range(size))


def test_every_block_can_come_first():
    firsts = [int(permute(np.array([0]), 5, seed=0, epoch=epoch)[0]) for epoch in range(500)]
    assert min(np.bincount(firsts, minlength=5)) > 60  # 100 expected, 4.5 deviations


def test_rows_are_shuffled_within_a_window_that_touches_few_blocks():
    order = epoch_order(50 * WINDOW_ROWS, 1, 0)
    for window in (0, 17, 49):
        rows = np.array(order[window * WINDOW_ROWS : (window + 1) * WINDOW_ROWS])
        assert len(set(rows // BLOCK_ROWS)) <= 2 * WINDOW_BLOCKS  # counting begins anywhere
        assert (abs(np.diff(rows)) == 1).mean() < 0.01
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.05


def test_a_huge_dataset_needs_no_table():
    rows = 10**12 + 7
    found = {row_at(3 * rows + place, rows, 1) for place in (0, 1, WINDOW_ROWS, rows - 1)}
    assert len(found) == 4
    assert all(epoch == 3 and 0 <= row < rows for epoch, row in found)


def test_the_order_stays_what_it_was():
    """An order that changed would break the resumption of every run."""
    assert [row_at(place, 5000, 7) for place in (0, 1, 2, 5000)] == [
        (0, 3525),
        (0, 908),
        (0, 1114),
        (1, 1709),
    ]


def test_a_batch_is_its_rows_end_to_end(dataset):
    places = [5, 6, ROWS + 1]
    batch = read_batch(dataset, places, seed=4)
    rows = [row_at(place, ROWS, 4)[1] for place in places]
    assert batch.rows_R.tolist() == rows
    assert batch.epochs_R.tolist() == [0, 0, 1]
    lengths = [1 + row % 7 for row in rows]
    assert batch.ids_T.tolist() == [row for row in rows for _ in range(1 + row % 7)]
    assert batch.row_ends_R.tolist() == np.cumsum(lengths).tolist()
    starts = np.cumsum([0, *lengths[:-1]])
    ends = [{start + 1, start + length} for start, length in zip(starts, lengths, strict=True)]
    assert batch.segment_ends_D.tolist() == sorted(set.union(*ends))


@pytest.mark.parametrize("world", [1, 2, 3, 6])
@pytest.mark.parametrize("micro_rows", [1, 2, 4, 9])
def test_ranks_and_micro_batches_share_a_step_without_loss(dataset, world, micro_rows):
    steps = 10  # of 5 rows: more than two epochs of 23
    seen = [[] for _ in range(steps)]
    for rank in range(world):
        own = read_all(dataset, 1, 0, Share(5, micro_rows, rank, world))
        for step, batches in enumerate(islice(own, steps)):
            assert len(batches) == len(Share(5, micro_rows, 0, world).micro_places(step))
            found = [batch for batch in batches if batch]  # ranges without a place are left as such
            assert all(0 < len(batch.rows_R) <= micro_rows for batch in found)
            seen[step] += [place for batch in found for place in batch.places_R.tolist()]
        own.close()
    assert [sorted(places) for places in seen] == [
        list(range(step * 5, step * 5 + 5)) for step in range(steps)
    ]


def test_a_batch_of_a_chat_dataset_tells_whose_turn_each_token_is(chat_dataset):
    assert chat_dataset.has_turns
    batch = read_batch(chat_dataset, [3, 0, 11, 22], 1)
    expected = [np.arange(1 + row % 7) // 2 % 3 for row in batch.rows_R]
    assert batch.turns_T.dtype == np.uint16
    np.testing.assert_array_equal(batch.turns_T, np.concatenate(expected))


def test_a_batch_of_a_plain_dataset_has_no_turns(dataset):
    assert not dataset.has_turns
    assert dataset.row(0).turns is None
    assert read_batch(dataset, [0, 1], 1).turns_T is None


def test_reading_starts_anywhere(dataset):
    def rows(first_step, steps):
        reading = read_all(dataset, 1, first_step, Share(4, 2))
        found = [[batch.rows_R.tolist() for batch in step] for step in islice(reading, steps)]
        reading.close()
        return found

    assert rows(0, 9)[6:] == rows(6, 3)


def test_closing_ends_the_thread(dataset):
    reading = read_all(dataset, 1, 0, Share(4, 2))
    next(reading)
    assert [thread.name for thread in threading.enumerate() if "read-ahead" in thread.name]
    reading.close()
    assert not [thread for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_damage_met_while_reading_ahead_is_raised_and_ends_the_thread(dataset):
    shard = dataset.folder / dataset.manifest.shards[0].name
    data = bytearray(shard.read_bytes())
    data[12] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="frame 0"):
        next(read_all(dataset, 1, 0, Share(4, 2)))
    assert not [thread for thread in threading.enumerate() if "read-ahead" in thread.name]
