"""Work in threads keeps its order, and a bounded amount of it is under way."""

import threading
import time

import numpy as np
import pytest

from illada_core.data.build.encoding import insert_eos, map_in_order, read_ahead


def count_to(stop):
    yield from range(stop)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_keep_the_order(workers):
    def work(number):
        time.sleep(0.001 * (number % 3))
        return number * 2

    found = map_in_order(work, read_ahead(count_to(40)), workers, lambda number: 1)
    assert list(found) == list(range(0, 80, 2))


@pytest.mark.parametrize(("weight", "most"), [(1, 6), (6 << 20, 3), (100 << 20, 1)])
def test_what_is_under_way_is_bounded_by_number_and_weight(weight, most):
    begun = []
    for done, _ in enumerate(map_in_order(begun.append, count_to(30), 2, lambda _: weight)):
        assert len(begun) - done <= most + 1
    assert len(begun) == 30


def test_a_failure_reaches_the_caller_and_the_threads_end():
    def work(number):
        if number == 5:
            raise ValueError("five")
        return number

    before = threading.active_count()
    found = []
    with pytest.raises(ValueError, match="five"):
        found.extend(map_in_order(work, read_ahead(count_to(100)), 2, lambda number: 1))
    assert threading.active_count() == before


def test_a_failure_of_the_reader_reaches_the_caller():
    def read():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(read_ahead(read()))


def test_every_document_gets_one_eos_and_an_open_end_none():
    ids, ends = insert_eos(np.array([5, 6, 7, 8], np.uint32), np.array([2, 2, 3]), 9)
    assert ids.tolist() == [5, 6, 9, 9, 7, 9, 8]
    assert ends.tolist() == [3, 4, 6]
