"""Which flash attention torch is told to run; no GPU is needed to decide it."""

import pytest
import torch
from torch import nn

from illada_core.model import attention
from illada_core.model.attention import choose_backend
from illada_core.model.kernels import flash
from illada_core.model.kernels.flash import newest_flash, unsplit, varlen_parameters


@pytest.fixture
def activated(monkeypatch):
    """Return what torch is told to run, where all modules seem to be there."""
    told = []
    monkeypatch.setattr(flash, "is_installed", lambda module: True)
    monkeypatch.setattr(nn.attention, "activate_flash_attention_impl", told.append, raising=False)
    newest_flash.cache_clear()
    yield told
    newest_flash.cache_clear()


@pytest.mark.parametrize(
    ("capability", "name"), [((8, 0), "FA2"), ((8, 9), "FA2"), ((9, 0), "FA4"), ((10, 0), "FA4")]
)
def test_the_newest_that_a_gpu_runs_is_activated_once(activated, capability, name):
    assert [newest_flash(capability), newest_flash(capability)] == [name, name]
    assert activated == [name] * (name != "FA2")


def test_one_that_is_missing_or_breaks_leaves_the_next(activated, monkeypatch):
    monkeypatch.setattr(flash, "is_installed", lambda module: module == "flash_attn_interface")
    assert newest_flash((9, 0)) == "FA3"
    newest_flash.cache_clear()
    monkeypatch.setattr(nn.attention, "activate_flash_attention_impl", lambda name: 1 / 0)
    assert newest_flash((9, 0)) == "FA2"


def test_nothing_is_activated_where_nothing_is_installed():
    assert newest_flash((9, 0)) == "FA2"
    assert not flash.is_installed("flash_attn_interface")
    assert not flash.is_installed("no_such_parent.child")


def test_the_reason_names_the_version(activated, monkeypatch):
    monkeypatch.setattr(attention, "fault", lambda name, *_: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    cuda = torch.device("cuda")
    assert choose_backend(cuda, torch.bfloat16) == ("varlen", "torch's packed flash kernel (FA4)")
    assert choose_backend(cuda, torch.bfloat16, "varlen") == ("varlen", "asked for (FA4)")
    assert choose_backend(cuda, torch.bfloat16, "flash") == ("flash", "asked for")


def test_sums_over_keys_are_not_split_where_nobody_learns(monkeypatch):
    assert "enable_gqa" in varlen_parameters()
    with torch.no_grad():
        assert unsplit() == {"num_splits": 1}
        monkeypatch.setattr(flash, "varlen_parameters", lambda: ("enable_gqa",))
        assert unsplit() == {}
    assert unsplit() == {}
