"""The names under which a layout stores our parameters: the tables are those of the families."""

from illada_core.model.config import ModelConfig, parameter_shapes
from illada_core.model.families.table import TABLE


def own_layout(config: ModelConfig) -> str:
    """Return the layout that we write a trained model in: iLLaDA's of both LLaDAs, else its own."""
    return "illada" if config.family == "llada" else config.family


def stored_names(config: ModelConfig, layout: str) -> dict[str, str]:
    """Return the key under which `layout` stores each of our parameters, in our order."""
    table = TABLE[layout].names
    names = {}
    for ours in parameter_shapes(config):
        head, dot, rest = ours.partition(".")
        if head == "layers":
            number, _, leaf = rest.partition(".")
            names[ours] = table[f"layers.N.{leaf}"].replace(".N.", f".{number}.")
        else:
            names[ours] = table[head + dot + rest]
    return names


def doubled_head(config: ModelConfig, layout: str) -> str | None:
    """Return the key of the copy a tied head may be stored as, beside the embedding."""
    return TABLE[layout].names["output.weight"] if config.tied else None
