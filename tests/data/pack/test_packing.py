"""Packing loses nothing, keeps documents whole where it says so, and depends on its seed alone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from illada_core.data.pack.order import PIECE, Sizes, is_held_out
from illada_core.data.pack.packing import best_fit_decreasing, fit_rows, stream_rows, tokens_between
from illada_core.data.pack.plan import PackSettings, plan_facts, plan_parts
from illada_core.data.pack.write import clear_packed, pack
from illada_core.data.store.dataset import open_dataset, open_packed, open_parts
from illada_core.data.store.verify import describe, verify
from illada_core.errors import DataError, UsageError

VOCABULARY, EOS = 70_000, 2
SMALL = Sizes(block_tokens=700, window_tokens=4_000)
FIT = PackSettings(128, "fit", "document", shuffle=True, seed=1, holdout=0.1)
STREAM = PackSettings(128, "stream", "row", shuffle=True, seed=1, holdout=0.1)
MODES = pytest.mark.parametrize("settings", [FIT, STREAM], ids=["fit", "stream"])


def random_documents(count=300, longest=400):
    generator = np.random.default_rng(0)
    documents = []
    for length in generator.integers(1, longest, count):
        ids = generator.integers(6, VOCABULARY, length, dtype=np.uint32)
        ids[-1] = EOS
        documents.append(ids)
    return documents


@pytest.fixture
def documents():
    return random_documents()


@pytest.fixture
def tokens(write_tokens, documents):
    return write_tokens(documents, VOCABULARY, shards=3)


def packed(tokens, folder, settings, sizes=SMALL, over=map):
    """Pack a dataset and return its training and validation parts."""
    written = sum(pack(tokens, folder, settings, over, sizes=sizes))
    assert written == tokens.tokens
    return open_packed(folder)


def pieces_of(dataset):
    """Yield (record, offset, ids) of every piece of a document, as the index tells them."""
    for shard, index in enumerate(dataset.indexes()):
        start = int(dataset.token_starts[shard])
        begin = 0
        for record, offset, end in zip(
            index.document_records, index.document_offsets, index.document_ends, strict=True
        ):
            yield int(record), int(offset), dataset.read(start + begin, start + int(end))
            begin = int(end)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def slow_best_fit(lengths, capacity):
    """Return the sorted fills of rows after best-fit-decreasing, one piece and row at a time."""
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, room in enumerate(rooms) if room >= length]
        if fitting:
            best = min(fitting, key=lambda row: rooms[row])
            rooms[best] -= length
        else:
            rooms.append(capacity - length)
    return sorted(capacity - room for room in rooms)


@pytest.mark.parametrize("trial", range(50))
def test_groups_of_equal_lengths_are_placed_as_best_fit_places_pieces(trial):
    generator = np.random.default_rng(trial)
    capacity = int(generator.integers(3, 60))
    lengths = generator.integers(1, capacity + 1, int(generator.integers(0, 150)))
    rows = best_fit_decreasing(lengths, capacity)
    fills = np.bincount(rows, weights=lengths, minlength=0).astype(int).tolist()
    assert sorted(fills) == slow_best_fit(lengths.tolist(), capacity)


def test_fit_rows_keep_the_order_of_pieces_and_of_first_pieces():
    pieces = np.zeros(500, PIECE)
    pieces["length"] = np.random.default_rng(0).integers(1, 100, 500)
    pieces["record"] = np.arange(500)
    found, row_ends = fit_rows(pieces, 100)
    rows = np.split(found["record"], row_ends[:-1])
    assert sorted(found["record"].tolist()) == list(range(500))
    assert all((np.diff(row) > 0).all() for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


@pytest.mark.parametrize("length", [1, 7, 100, 10_000])
def test_stream_rows_are_the_stream_cut_into_equal_lengths(length):
    pieces = np.zeros(50, PIECE)
    pieces["length"] = np.random.default_rng(0).integers(1, 60, 50)
    pieces["record"] = np.arange(50)
    total = int(pieces["length"].sum())
    stream = [(p["record"], p["start"] + i) for p in pieces for i in range(p["length"])]
    found, row_ends = stream_rows(pieces, length)
    rows = [
        [(p["record"], p["start"] + i) for p in row for i in range(p["length"])]
        for row in np.split(found, row_ends[:-1])
    ]
    assert rows == [stream[start : start + length] for start in range(0, total, length)]
    np.testing.assert_array_equal(found["start"], found["offset"])


def test_any_range_of_tokens_is_found_among_pieces():
    pieces = np.zeros(6, PIECE)
    pieces["length"] = [3, 1, 4, 1, 5, 9]
    pieces["record"] = np.arange(6)
    stream = [(p["record"], i) for p in pieces for i in range(p["length"])]
    for start in range(len(stream)):
        for stop in range(start + 1, len(stream) + 1):
            found = tokens_between(pieces, start, stop)
            laid = [(p["record"], p["start"] + i) for p in found for i in range(p["length"])]
            assert laid == stream[start:stop]


@MODES
def test_every_token_of_every_document_is_there_once(tmp_path, tokens, documents, settings):
    train, validation = packed(tokens, tmp_path / "packed", settings)
    assert len(train.manifest.shards) > 5
    found = {}
    for part in (train, validation):
        for record, offset, ids in pieces_of(part):
            assert found.setdefault(record, {}).setdefault(offset, ids) is ids
    assert len(found) == len(documents)
    for record, parts in found.items():
        rebuilt = np.concatenate([parts[offset] for offset in sorted(parts)])
        np.testing.assert_array_equal(rebuilt, documents[record])


@MODES
def test_rows_are_read_as_they_were_packed(tmp_path, tokens, settings):
    train, _ = packed(tokens, tmp_path / "packed", settings)
    rows = [train.row(number) for number in range(train.rows)]
    laid = np.concatenate([row.ids for row in rows])
    np.testing.assert_array_equal(laid, train.read(0, train.tokens))
    np.testing.assert_array_equal([len(row.ids) for row in rows], train.row_lengths)
    assert all(row.segment_ends[-1] == len(row.ids) for row in rows)
    assert train.row_lengths.max() <= settings.sequence_length


def test_stream_rows_are_full_but_for_the_last(tmp_path, tokens):
    train, _ = packed(tokens, tmp_path / "packed", STREAM)
    assert (train.row_lengths[:-1] == 128).all()
    assert train.rows == -(-train.tokens // 128)


def test_fit_cuts_only_documents_longer_than_a_row(tmp_path, tokens, documents):
    train, validation = packed(tokens, tmp_path / "packed", FIT)
    for part in (train, validation):
        for record, offset, ids in pieces_of(part):
            whole = len(documents[record])
            assert offset % 128 == 0
            assert len(ids) == min(128, whole - offset)


@MODES
@pytest.mark.parametrize("segments", ["row", "document"])
def test_segments_are_rows_or_pieces_of_documents(tmp_path, tokens, settings, segments):
    settings = PackSettings(128, settings.mode, segments, shuffle=True, seed=0, holdout=0)
    train, validation = packed(tokens, tmp_path / "packed", settings)
    assert validation is None
    for index in train.indexes():
        wanted = index.row_ends if segments == "row" else index.document_ends
        np.testing.assert_array_equal(index.segment_ends, wanted)


def test_a_row_that_crosses_windows_is_whole(tmp_path, tokens):
    settings = PackSettings(3_000, "stream", "row", shuffle=True, seed=0, holdout=0)
    train, _ = packed(tokens, tmp_path / "packed", settings, Sizes(100, 100))
    assert (train.row_lengths[:-1] == 3_000).all()
    assert train.tokens == tokens.tokens


@MODES
def test_order_is_a_function_of_the_seed(tmp_path, tokens, settings):
    def order(name, seed, shuffle=True):
        changed = PackSettings(128, settings.mode, "row", shuffle, seed, 0)
        train, _ = packed(tokens, tmp_path / name, changed)
        return [record for record, offset, _ in pieces_of(train) if offset == 0]

    first = order("a", 1)
    assert first == order("b", 1)
    assert first != order("c", 2)
    unshuffled = order("d", 1, shuffle=False)
    assert unshuffled == order("e", 2, shuffle=False)
    if settings.mode == "stream":
        assert unshuffled == sorted(unshuffled)


def test_documents_of_a_row_are_not_sorted_by_length(tmp_path, tokens):
    train, _ = packed(tokens, tmp_path / "packed", FIT)
    falling = 0
    rows = [np.diff(train.row(n).segment_ends, prepend=0) for n in range(train.rows)]
    pairs = [row for row in rows if len(row) == 2]
    falling = sum(row[0] > row[1] for row in pairs)
    assert 0.25 < falling / len(pairs) < 0.75


def test_a_shuffle_reaches_across_the_corpus(tmp_path, tokens):
    settings = PackSettings(128, "stream", "row", shuffle=True, seed=0, holdout=0)
    train, _ = packed(tokens, tmp_path / "packed", settings)
    first = [record for record, offset, _ in pieces_of(train)][:30]
    assert np.ptp(first) > tokens.documents / 3


def test_the_holdout_is_chosen_by_content_alone(tmp_path, write_tokens, documents):
    repeated = write_tokens([*documents, *documents[::-1]], VOCABULARY, shards=2)
    chosen = []
    for name, settings in (
        ("a", FIT),
        ("b", PackSettings(64, "stream", "row", shuffle=False, seed=9, holdout=0.1)),
    ):
        _, validation = packed(repeated, tmp_path / name, settings)
        chosen.append({record for record, _, _ in pieces_of(validation)})
    assert chosen[0] == chosen[1]
    assert {2 * len(documents) - 1 - record for record in chosen[0]} == chosen[0]


def test_a_larger_holdout_contains_a_smaller_one():
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    small, large = is_held_out(hashes, 0.01), is_held_out(hashes, 0.05)
    assert small.mean() == pytest.approx(0.01, rel=0.15)
    assert not (small & ~large).any()
    assert not is_held_out(hashes, 0).any()


@MODES
def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, tokens, settings):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    list(pack(tokens, whole, settings, sizes=SMALL))
    for steps in (1, 3, 4):
        with closing(pack(tokens, broken, settings, sizes=SMALL)) as running:
            for _ in range(steps):
                next(running)
    (broken / "train" / "shard-000004.u24.zst.partial").write_bytes(b"what kill -9 leaves")
    with pytest.raises(DataError, match="no manifest"):
        open_packed(broken)
    list(pack(tokens, broken, settings, sizes=SMALL))
    assert files_of(broken) == files_of(whole)


@MODES
def test_threads_write_the_same_bytes(tmp_path, tokens, settings):
    packed(tokens, tmp_path / "one", settings)
    with ThreadPoolExecutor(3) as pool:
        packed(tokens, tmp_path / "three", settings, over=pool.map)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")


def test_two_runs_never_write_one_folder(tmp_path, tokens):
    with closing(pack(tokens, tmp_path / "packed", STREAM, sizes=SMALL)) as first:
        next(first)
        with pytest.raises(DataError, match="another run is writing"):
            next(pack(tokens, tmp_path / "packed", FIT, sizes=SMALL))
        with pytest.raises(DataError, match="another run is writing"):
            clear_packed(tmp_path / "packed")
    assert packed(tokens, tmp_path / "packed", STREAM)


def test_a_finished_dataset_is_left_alone(tmp_path, tokens):
    packed(tokens, tmp_path / "packed", FIT)
    before = files_of(tmp_path / "packed")
    assert list(pack(tokens, tmp_path / "packed", FIT, sizes=SMALL)) == []
    assert files_of(tmp_path / "packed") == before


def test_other_settings_are_refused_and_named(tmp_path, tokens):
    folder = tmp_path / "packed"
    packed(tokens, folder, FIT)
    with pytest.raises(UsageError, match="mode fit instead of stream"):
        list(pack(tokens, folder, STREAM, sizes=SMALL))
    (folder / "manifest.json").unlink()
    with pytest.raises(UsageError, match="made with other settings"):
        list(pack(tokens, folder, STREAM, sizes=SMALL))
    (folder / "train" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="made with other settings"):
        list(pack(tokens, folder, STREAM, sizes=SMALL))
    clear_packed(folder)
    packed(tokens, folder, STREAM)


def test_a_token_dataset_is_never_cleared_as_a_packed_one(tokens):
    with pytest.raises(UsageError, match="is not a packed dataset"):
        clear_packed(tokens.folder)
    open_dataset(tokens.folder)


def test_a_folder_of_something_else_is_never_cleared_as_a_packed_one(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "up.partial").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(UsageError, match="is not a packed dataset"):
        clear_packed(tmp_path)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("sequence_length", [2_048, 8_192])
def test_fit_wastes_less_than_a_fifth_of_a_per_cent(sequence_length):
    generator = np.random.default_rng(0)
    lengths = generator.lognormal(np.log(2_450) - 0.5, 1.0, 8_192).astype(np.int64) + 1
    full, rest = np.divmod(lengths, sequence_length)
    rest = rest[rest > 0]
    rows = int(full.sum()) + best_fit_decreasing(rest, sequence_length).max() + 1
    assert 1 - lengths.sum() / (rows * sequence_length) < 0.002


@MODES
def test_the_plan_foretells_what_is_written(tmp_path, tokens, settings):
    plans = plan_parts(tokens, settings, SMALL)
    packed(tokens, tmp_path / "packed", settings)
    for plan in plans:
        facts, written = plan_facts(plan), describe(open_parts(tmp_path / "packed")[plan.part.name])
        for name in ("tokens", "rows", "shards", "empty_share"):
            assert facts[name] == written[name]


@MODES
def test_what_is_written_verifies(tmp_path, tokens, settings):
    for dataset in (tokens, *packed(tokens, tmp_path / "packed", settings)):
        steps = list(verify(dataset))
        assert [step.problem for step in steps if step.problem] == []
        assert sum(step.tokens for step in steps) == dataset.tokens


def test_an_empty_dataset_is_refused(tmp_path, write_tokens):
    with pytest.raises(DataError, match="nothing to pack"):
        list(pack(write_tokens([], VOCABULARY), tmp_path / "packed", FIT))


def test_a_holdout_of_everything_is_refused(tmp_path, tokens):
    settings = PackSettings(128, "fit", "row", shuffle=True, seed=0, holdout=1)
    with pytest.raises(DataError, match="takes every document"):
        list(pack(tokens, tmp_path / "packed", settings))


def test_a_packed_dataset_is_not_packed_again(tmp_path, tokens):
    train, _ = packed(tokens, tmp_path / "packed", FIT)
    with pytest.raises(UsageError, match="is packed already"):
        list(pack(train, tmp_path / "again", FIT))
    with pytest.raises(DataError, match="is a folder of datasets"):
        open_dataset(tmp_path / "packed")
    with pytest.raises(DataError, match="is not packed"):
        open_packed(tokens.folder)


@MODES
def test_a_document_longer_than_a_window_is_packed(tmp_path, write_tokens, settings):
    giant = np.full(20_000, 9, np.uint32)
    giant[-1] = EOS
    tokens = write_tokens([giant, *random_documents(20)], VOCABULARY)
    train, validation = packed(tokens, tmp_path / "packed", settings)
    total = train.tokens + (validation.tokens if validation else 0)
    assert total == tokens.tokens
