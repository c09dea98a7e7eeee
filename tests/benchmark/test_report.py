"""The average of a table, each task by the metric that counts."""

from dataclasses import replace

import pytest

from illada_core.benchmark.report import Row, average_of

ROW = Row(
    task="arc_easy",
    title="ARC-Easy",
    items=50,
    metric="acc_norm,none",
    value=0.5,
    interval=(0.4, 0.7),
    shots=0,
    published=0.6,
)
OTHERS = (
    replace(ROW, metric="acc,none", value=0.1, published=None),
    replace(ROW, task="piqa", items=30, value=0.7, interval=(0.6, 0.75), published=0.8),
)


def test_the_average_has_each_task_once_and_the_interval_of_separate_draws():
    found = average_of([ROW, *OTHERS])
    assert (found.task, found.items, found.shots) == ("average", 80, None)
    assert found.value == pytest.approx(0.6)
    assert found.published == pytest.approx(0.7)
    low, high = found.interval
    assert 0.6 - low == pytest.approx((0.1**2 + 0.1**2) ** 0.5 / 2)
    assert high - 0.6 == pytest.approx((0.2**2 + 0.05**2) ** 0.5 / 2)


def test_one_task_has_no_average_and_figures_are_averaged_only_where_all_are_known():
    assert average_of([ROW, OTHERS[0]]) is None
    assert average_of([]) is None
    assert average_of([ROW, replace(OTHERS[1], published=None)]).published is None
