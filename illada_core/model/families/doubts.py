"""What in a config.json speaks against what its model type stands for. No torch."""

from typing import Any

from illada_core.model.families.family import Facts

# Fields that a diffusion model's file holds and an autoregressive one's does not.
SIGNS: dict[str, tuple[Any, ...]] = {
    "mask_token_id": (None,),
    "auto_map": (None, {}),
    "use_bidirectional_attention": (None, False),
    "is_causal": (None, True),
}


def signs_of_diffusion(facts: Facts) -> list[str]:
    """Name the fields by which a file in an autoregressive layout may be of a diffusion model."""
    return [name for name, plain in SIGNS.items() if facts.get(name) not in plain]


def other_architecture(facts: Facts, known: str) -> list[str]:
    """Name the architecture of a file that names another class than the known one."""
    named = facts.get("architectures")
    return [] if named in (None, [known]) else [f"architectures {named!r}"]
