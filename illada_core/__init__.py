"""Masked-diffusion language models: data, model, objective, sampler, scoring and training.

Imports go down only: training, diffusion, model and data, errors (docs/design.md). The names in
API can be imported from here; torch is loaded by the first that needs it.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

API = {
    "Gap": "illada_core.inference.canvas",
    "ModelConfig": "illada_core.model.config",
    "ModelIds": "illada_core.inference.rules",
    "Sampler": "illada_core.inference.sampler",
    "Settings": "illada_core.inference.settings",
    "Task": "illada_core.inference.canvas",
    "continuation": "illada_core.inference.canvas",
    "generate": "illada_core.inference.sampler",
    "load_model": "illada_core.model.weights",
    "read_config": "illada_core.model.configfile",
    "save_model": "illada_core.model.weights",
}


def __getattr__(name: str) -> Any:
    if name in API:
        return vars(import_module(API[name]))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *API])
