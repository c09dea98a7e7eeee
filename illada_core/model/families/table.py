"""The table of families, and which row a config.json belongs to. No torch."""

from illada_core.decoding import shaped
from illada_core.errors import UsageError
from illada_core.model.families import dream, illada, llada, llama, qwen2, qwen3
from illada_core.model.families.family import Facts, Family, Reading

TABLE: dict[str, Family] = {
    "illada": illada.FAMILY,
    "llada": llada.FAMILY,
    "dream": dream.FAMILY,
    "qwen2": qwen2.FAMILY,
    "llama": llama.FAMILY,
    "qwen3": qwen3.FAMILY,
}
BY_TYPE = {model_type: family for family in TABLE.values() for model_type in family.readings}
# Our own keys of config.json, which say what a model type leaves open.
ATTENTION_KEY, SHIFT_KEY = "illada_attention", "illada_shift"
# What is left open, in the words of a person, and the options that say it.
OPEN_WORDS = {"attention": "what a token attends to", "shift": "whose token a row speaks of"}
OPEN_OPTIONS = {"attention": "--attention full or causal", "shift": "--shift or --no-shift"}


def decide_reading(facts: Facts, asked: Reading) -> Reading:
    """Return how a checkpoint is to be read: as asked, else by our own keys, else by its type.

    Raises UsageError where nobody says it, or a field speaks against the type.
    """
    family, model_type = BY_TYPE[facts["model_type"]], facts["model_type"]
    attention = shaped(facts.get(ATTENTION_KEY), str | None, ATTENTION_KEY)
    shift = shaped(facts.get(SHIFT_KEY), bool | None, SHIFT_KEY)
    said = asked.over(Reading(attention, shift))
    if said.is_known:
        return said
    doubts = family.doubts(facts)
    found = said if doubts else said.over(family.readings[model_type])
    if found.is_known:
        return found
    why = f"it holds {' and '.join(doubts)}" if doubts else "files of that type differ in it"
    left = [name for name, value in vars(found).items() if value is None]
    raise UsageError(
        f"the model type {model_type!r} does not tell "
        f"{' and '.join(OPEN_WORDS[name] for name in left)}: {why}",
        f"say it: {' and '.join(OPEN_OPTIONS[name] for name in left)}",
    )


def reading_facts(family: str, reading: Reading) -> Facts:
    """Return the model type by which a file of a family says how it is to be read.

    What the type leaves open is said by our own keys. Raises UsageError where no type fits.
    """
    for model_type, stands_for in TABLE[family].readings.items():
        if stands_for.includes(reading):
            facts: Facts = {"model_type": model_type}
            if stands_for != reading:
                facts |= {ATTENTION_KEY: reading.attention, SHIFT_KEY: reading.shift}
            return facts
    shifted = "the next" if reading.shift else "its own"
    raise UsageError(
        f"the {family} layout cannot say {reading.attention} attention where a row speaks of "
        f"{shifted} token"
    )
