"""What a config.json says of rotary positions: their base, and how they are scaled. No torch."""

import json
from typing import Any

from illada_core.decoding import Count, shaped
from illada_core.errors import UsageError
from illada_core.model.config import RopeScaling
from illada_core.model.features import ONE, UNSET, refuse_other

TABLES = ("rope_parameters", "rope_scaling")  # newer and older files
COMPUTED: dict[str, tuple[Any, ...]] = {
    "rope_type": ("default", None),
    "type": ("default", None),
    "partial_rotary_factor": ONE,
    "factor": ONE,
}
LLAMA3_FIELDS = {
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original_length": "original_max_position_embeddings",
}


def rope_theta(facts: dict[str, Any]) -> float:
    """Return the base of the rotary positions, said beside the other fields or in a table.

    Raises KeyError where nobody says it, UsageError for two bases, ValueError for no number.
    """
    tables = [rope_table(name, facts.get(name)) for name in TABLES]
    said = [
        table["rope_theta"] for table in (facts, *tables) if table.get("rope_theta") is not None
    ]
    given = said or [facts["rope_theta"]]
    numbers = sorted({shaped(value, float, "rope_theta") for value in given})
    if len(numbers) > 1:
        raise UsageError(f"it says rope_theta twice, {' and '.join(map(str, numbers))}")
    return numbers[0]


def rope_table(name: str, table: Any) -> dict[str, Any]:
    """Return a table of rotary positions, empty where there is none. Raises UsageError."""
    if table is None or table is False:
        return {}
    if not isinstance(table, dict):
        raise UsageError(f"{name} is {json.dumps(table)}, not an object")
    return table


def refuse_scaling(facts: dict[str, Any]) -> None:
    """Raise UsageError for positions that are scaled."""
    for name in TABLES:
        refuse_scaled(name, rope_table(name, facts.get(name)))


def refuse_scaled(name: str, table: dict[str, Any]) -> None:
    """Raise UsageError for a table of positions that are scaled."""
    for key in ("rope_type", "type"):
        if table.get(key) not in COMPUTED[key]:
            raise UsageError(
                f"{name} is {json.dumps(table)}, and rotary positions of type {table[key]!r} "
                "are not supported"
            )
    for key, value in table.items():
        if key != "rope_theta":
            refuse_other(f"{name}.{key}", value, COMPUTED.get(key, UNSET))


def llama3_scaling(facts: dict[str, Any]) -> RopeScaling | None:
    """Return Llama 3.1's scaling, None where positions are not scaled.

    Raises UsageError for another kind and for two that differ, KeyError for a field it lacks.
    """
    found = set()
    for name in TABLES:
        table = rope_table(name, facts.get(name))
        if "llama3" not in (table.get("rope_type"), table.get("type")):
            refuse_scaled(name, table)
            continue
        numbers = {
            ours: shaped(table[theirs], Count if ours == "original_length" else float, theirs)
            for ours, theirs in LLAMA3_FIELDS.items()
        }
        others = {
            key: value
            for key, value in table.items()
            if key not in (*LLAMA3_FIELDS.values(), "rope_theta", "rope_type", "type")
        }
        refuse_scaled(name, others)
        found.add(RopeScaling(**numbers))
    if len(found) > 1:
        raise UsageError("it scales rotary positions twice, and differently")
    return found.pop() if found else None


def scaling_facts(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """Return what `rope_scaling` of a config.json says."""
    if scaling is None:
        return None
    return {
        "rope_type": "llama3",
        **{theirs: vars(scaling)[ours] for ours, theirs in LLAMA3_FIELDS.items()},
    }
