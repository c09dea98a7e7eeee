"""Several datasets as one line of places: each row once per epoch of its source (laws 2 and 3)."""

from collections import Counter

import numpy as np
import pytest

from illada_core.data import mixture
from illada_core.data.batches import read_batch
from illada_core.data.mixture import (
    Entry,
    Mixture,
    Phase,
    go_on,
    parse_mixture,
    row_key,
    share_out,
    whole_of,
)
from illada_core.data.store.dataset import open_dataset
from illada_core.errors import UsageError
from tests.training.tiny import write_rows

SEED = 7
ROWS = {"a": 70, "b": 130, "c": 23}


@pytest.fixture(autouse=True)
def short_cycle(monkeypatch):
    monkeypatch.setattr(mixture, "CYCLE", 20)
    mixture.cycle_order.cache_clear()
    yield
    mixture.cycle_order.cache_clear()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name, rows in ROWS.items():
        write_rows(folder / name, rows, row_tokens=4)
    return [open_dataset(folder / name) for name in ROWS]


def slots_of(sources, counts):
    return tuple((s.fingerprint, n) for s, n in zip(sources, counts, strict=True) if n)


def places_of(mixed, places):
    """Return (source, epoch, row) at each place."""
    batch = mixed.read_batch(places)
    numbers = batch.rows_R >> 40, batch.epochs_R, batch.rows_R & (1 << 40) - 1
    return list(zip(*(each.tolist() for each in numbers), strict=True))


@pytest.mark.parametrize("counts", [(20, 0, 0), (10, 9, 1), (7, 6, 7), (1, 18, 1)])
def test_each_source_has_its_share_of_every_cycle_at_even_distances(sources, counts):
    mixed = Mixture((Phase(0, slots_of(sources, counts)),), sources, SEED)
    found = [source for source, _, _ in places_of(mixed, range(400))]
    shares = [count for count in counts if count]
    for start in range(0, 400, 20):
        assert Counter(found[start : start + 20]) == dict(enumerate(shares))
    for source, count in enumerate(shares):
        own = np.cumsum(np.array(found) == source)
        assert np.abs(own - np.arange(1, 401) * count / 20).max() < 2


def test_every_row_of_a_source_comes_once_per_epoch_of_it(sources):
    mixed = Mixture((Phase(0, slots_of(sources, (5, 12, 3))),), sources, SEED)
    found = places_of(mixed, range(600))
    for number, source in enumerate(sources):
        own = [(epoch, row) for which, epoch, row in found if which == number]
        for epoch in range(own[-1][0]):
            rows = [row for at, row in own if at == epoch]
            assert sorted(rows) == list(range(source.rows))
            assert rows != sorted(rows)


def test_a_place_does_not_depend_on_what_was_read_before(sources):
    slots = slots_of(sources, (5, 12, 3))
    whole = places_of(Mixture((Phase(0, slots),), sources, SEED), range(300))
    for place in (299, 3, 57, 0):
        mixture.cycle_order.cache_clear()
        alone = Mixture((Phase(0, slots),), sources, SEED)
        assert places_of(alone, [place]) == [whole[place]]
    assert places_of(Mixture((Phase(0, slots),), sources, SEED + 1), range(300)) != whole


def test_a_mixture_of_one_is_the_dataset_itself(sources):
    mixed = Mixture((Phase(0, slots_of(sources, (20, 0, 0))),), sources, SEED)
    found, wanted = mixed.read_batch(range(100)), read_batch(sources[0], range(100), SEED)
    for name in ("ids_T", "row_ends_R", "places_R", "epochs_R", "rows_R"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_sources_of_equal_size_have_orders_and_noise_of_their_own(sources):
    assert row_key(5, 0) == 5
    first = Mixture((Phase(0, slots_of(sources, (10, 10, 0))),), sources, SEED)
    found = places_of(first, range(100))
    rows = [[row for which, _, row in found if which == number] for number in (0, 1)]
    assert rows[0] != rows[1]


def test_another_mixture_goes_on_where_each_source_was(sources):
    before, after = slots_of(sources, (10, 10, 0)), slots_of(sources, (0, 4, 16))
    last = slots_of(sources, (8, 6, 6))
    phases = go_on(go_on((Phase(0, before),), after, 33), last, 171)
    assert [phase.first_place for phase in phases] == [0, 33, 171]
    mixed = Mixture(phases, sources, SEED)
    found = places_of(mixed, range(500))
    alone = places_of(Mixture((Phase(0, before),), sources, SEED), range(33))
    assert found[:33] == alone
    assert {which for which, _, _ in found[33:171]} == {1, 2}
    for number, source in enumerate(sources):
        own = [(epoch, row) for which, epoch, row in found if which == number]
        assert [epoch for epoch, _ in own] == [place // source.rows for place in range(len(own))]
        assert len(set(own)) == len(own)


def test_a_run_on_one_dataset_goes_on_as_a_mixture(sources):
    phases = go_on(whole_of(sources[1].fingerprint), slots_of(sources, (10, 10, 0)), 50)
    assert phases[0].slots == ((sources[1].fingerprint, 20),)
    found = places_of(Mixture(phases, sources, SEED), range(250))
    own = [(epoch, row) for which, epoch, row in found if which == 0]  # it came first
    assert len(set(own)) == len(own) > 130


def test_the_same_mixture_begins_no_phase_and_one_never_used_goes(sources):
    first, second = slots_of(sources, (10, 10, 0)), slots_of(sources, (5, 15, 0))
    phases = (Phase(0, first),)
    assert go_on(phases, first, 40) == phases
    assert go_on(go_on(phases, second, 40), first, 40) == phases
    assert go_on((), first, 0) == phases


def test_shares_follow_weights_or_epochs(sources):
    weights = parse_mixture(["x/a=1", "b=2", "c=1"])
    assert weights[0] == Entry("x/a", 1.0, False)
    assert [count for _, count in share_out(weights, sources)] == [5, 10, 5]
    epochs = parse_mixture(["a=1x", "b=0.5x", "c=2x"])  # 70, 65 and 46 rows of 181
    assert [count for _, count in share_out(epochs, sources)] == [8, 7, 5]


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=0", "a=-1", "a=nan", "a=inf", "a=1y", "a=x"])
def test_what_is_no_source_of_a_mixture_is_refused(text):
    with pytest.raises(UsageError, match="no source of a mixture"):
        parse_mixture([text])


def test_mixtures_that_contradict_themselves_are_refused(sources):
    with pytest.raises(UsageError, match="weights or epochs"):
        parse_mixture(["a=1", "b=2x"])
    with pytest.raises(UsageError, match="the same dataset twice"):
        share_out(parse_mixture(["a=1", "b=1"]), [sources[0], sources[0]])
    with pytest.raises(UsageError, match="too small a share"):
        share_out(parse_mixture(["a=1", "b=999"]), sources[:2])
