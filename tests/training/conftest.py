"""A tiny packed dataset, and a tiny recipe that reads it."""

from functools import partial

import pytest

from tests.training.tiny import tiny_recipe, write_packed


@pytest.fixture
def packed(tmp_path):
    return write_packed(tmp_path / "packed")


@pytest.fixture
def recipe(packed):
    """Return the function that makes the tiny recipe with changes: recipe("run.seed=1")."""
    return partial(tiny_recipe, packed)
