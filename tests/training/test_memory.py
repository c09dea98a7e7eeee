"""A run that cannot fit is refused before anything of it is allocated."""

import pytest
import torch

from illada_core.errors import UsageError
from illada_core.training import memory
from illada_core.training.parallel import Ranks
from illada_core.training.recipe.footprint import FP32_BYTES
from illada_core.training.session import open_session
from illada_core.training.setup import prepare
from tests.training.tiny import tiny_recipe, write_packed

ALONE = Ranks(rank=0, world=1, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("packed") / "rows")


@pytest.mark.parametrize(
    "changes",
    [
        ["model.width=1_000_000", "model.ffn_size=4_000_000"],
        ["model.layers=10_000", "model.width=4096"],
        ["model.vocab_size=1_000_000_000_000"],
        ["batch.rows=1_000_000_000_000", "batch.micro_rows=1_000_000_000_000"],
        ["batch.rows=9_000_000_000_000_000_000"],
    ],
)
def test_a_run_larger_than_the_machine_is_a_usage_error(packed, tmp_path, changes):
    setup = prepare(tiny_recipe(packed, *changes))
    with pytest.raises(UsageError, match=r"the run needs at least .* GB of memory") as caught:
        open_session(setup, tmp_path / "run", ALONE, False).__enter__()
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def test_what_fits_is_not_refused(packed, monkeypatch):
    setup = prepare(tiny_recipe(packed))
    kept = (
        4
        * FP32_BYTES
        * sum(size for size in (128 * 16, 16, 2 * (16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 32 + 32)))
    )
    assert kept <= memory.least_bytes(setup, 1) < 4 * kept
    memory.check_memory(setup, ALONE)
    monkeypatch.setattr(memory, "device_bytes", lambda device: kept - 1)
    with pytest.raises(UsageError):
        memory.check_memory(setup, ALONE)


def test_a_limit_of_the_container_counts(tmp_path, monkeypatch):
    here = torch.device("cpu")
    whole = memory.device_bytes(here)
    limits = [tmp_path / "max", tmp_path / "limit", tmp_path / "none"]
    limits[0].write_text("max\n")
    limits[1].write_text("1000000\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", tuple(map(str, limits)))
    assert memory.device_bytes(here) == 1_000_000 < whole


def test_sizes_that_no_model_has_are_told_by_their_names(packed):
    for change, told in (
        ("model.layers=1_000_000_000", "1,000,000,000 layers"),
        ("run.threads=1_000_000_000", "threads"),
        ("batch.rows=1e30", r"batch\.rows must be .* below 2\^63"),
    ):
        with pytest.raises(UsageError, match=told):
            prepare(tiny_recipe(packed, change))
