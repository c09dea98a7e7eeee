"""Slow ranks are named before the first step."""

from illada_core.training.health import MATRICES, Found, slow_ranks


def found(*rates):
    return [Found(f"node{rank}", {MATRICES: rate}) for rank, rate in enumerate(rates)]


def test_slow_ranks_are_named_with_their_machines():
    assert slow_ranks(found(100.0, 98.0, 50.0, 101.0), 0.9) == [
        f"rank 2 on node2 {MATRICES} at 51% of the usual rate"
    ]
    assert slow_ranks(found(100.0, 91.0, 95.0), 0.9) == []
