"""Masked-diffusion language models: data, model, objective, sampler, scoring and training.

`illada_core.load(ckpt)` returns a model with text in and text out (docs/python.md). The names in
`__all__` can be imported from here; torch is loaded by the first that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers: importing the package must not load torch
    from illada_core.api import Model, load
    from illada_core.evaluation.items import ScoringSettings
    from illada_core.evaluation.perplexity import TextBound
    from illada_core.evaluation.verdicts import Verdict
    from illada_core.inference.canvas import Gap, Task, continuation
    from illada_core.inference.rules import ModelIds
    from illada_core.inference.sampler import Sampler, generate
    from illada_core.inference.settings import Settings
    from illada_core.inference.text_sampler import Generation, TextSampler
    from illada_core.model.config import ModelConfig
    from illada_core.model.configfile import read_config
    from illada_core.model.weights import load_model, save_model

__version__ = "0.1.0"

__all__ = [
    "Gap",
    "Generation",
    "Model",
    "ModelConfig",
    "ModelIds",
    "Sampler",
    "ScoringSettings",
    "Settings",
    "Task",
    "TextBound",
    "TextSampler",
    "Verdict",
    "__version__",
    "continuation",
    "generate",
    "load",
    "load_model",
    "read_config",
    "save_model",
]

HOMES = {
    "api": ("Model", "load"),
    "evaluation.items": ("ScoringSettings",),
    "evaluation.perplexity": ("TextBound",),
    "evaluation.verdicts": ("Verdict",),
    "inference.canvas": ("Gap", "Task", "continuation"),
    "inference.rules": ("ModelIds",),
    "inference.sampler": ("Sampler", "generate"),
    "inference.settings": ("Settings",),
    "inference.text_sampler": ("Generation", "TextSampler"),
    "model.config": ("ModelConfig",),
    "model.configfile": ("read_config",),
    "model.weights": ("load_model", "save_model"),
}


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            return vars(import_module(f"illada_core.{home}"))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
