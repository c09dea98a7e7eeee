"""Which flash attention torch's packed kernel runs: 2 as it comes, 3 or 4 where they are installed.

Torch swaps the kernel under the same call for all that follows in the process
(`torch.nn.attention.activate_flash_attention_impl`), and never does so by itself.
"""

import inspect
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

# The newest first: the module that each needs, and the compute capabilities that it runs on.
NEWER = {
    "FA4": ("flash_attn.cute.interface", ((9, 0), (10, 0))),
    "FA3": ("flash_attn_interface", ((9, 0),)),
}


@lru_cache
def newest_flash(capability: tuple[int, int]) -> str:
    """Have torch take the newest flash attention for a GPU, and return its name."""
    activate = getattr(nn.attention, "activate_flash_attention_impl", None)
    for name, (module, capabilities) in NEWER.items():
        if activate is None or capability not in capabilities or not is_installed(module):
            continue
        try:
            activate(name)
        except Exception:  # whatever a library of its own raises while it is set up
            continue
        return name
    return "FA2"


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


@lru_cache(maxsize=1)
def varlen_parameters() -> tuple[str, ...]:
    """Return the parameters that this torch's packed kernel knows; none where it has none."""
    if not is_installed("torch.nn.attention.varlen"):
        return ()
    from torch.nn.attention.varlen import varlen_attn

    return tuple(inspect.signature(varlen_attn).parameters)


def unsplit() -> dict[str, Any]:
    """Return what keeps a row's sum over keys in one order, whatever the company, if torch can.

    Without gradients only: splits are chosen there by how busy the GPU would be.
    """
    if torch.is_grad_enabled() or "num_splits" not in varlen_parameters():
        return {}
    return {"num_splits": 1}
