"""What the verbs that train are run on."""

import pytest

from illada_core.training.recipe.files import to_toml
from tests.training.tiny import tiny_recipe, write_packed


@pytest.fixture
def packed(tmp_path):
    return write_packed(tmp_path / "packed")


@pytest.fixture
def tiny(tmp_path, packed):
    """Write the tiny recipe with changes, and return its file."""

    def write(*changes):
        path = tmp_path / "tiny.toml"
        path.write_text(to_toml(tiny_recipe(packed, *changes)))
        return path

    return write
