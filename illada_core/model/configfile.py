"""`config.json` of every family, both ways; no torch.

Whatever a file says that this transformer does not compute is an error (`features`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding, read_json
from illada_core.model.config import ModelConfig
from illada_core.model.families.family import Reading
from illada_core.model.families.table import (
    ATTENTION_KEY,
    BY_TYPE,
    SHIFT_KEY,
    TABLE,
    decide_reading,
    reading_facts,
)
from illada_core.model.features import refuse_features
from illada_core.model.finding import CONFIG

# What a layout need not say to be the same model.
NOT_SHAPE = ("family", "initializer_range", "bos_id", "pad_id", "eos_id", "mask_id")


def read_config(folder: Path, asked: Reading | None = None) -> ModelConfig:
    """Read `config.json` of a released or exported model.

    `asked` says how to read it where its model type leaves that open, or against what it says.
    Raises CheckpointError for a missing or broken file, an unknown model type, a feature the
    transformer does not have, or where nobody says how it is to be read.
    """
    path = Path(folder) / CONFIG
    if not path.exists():
        raise CheckpointError(
            f"{path} is missing, so {path.parent} is no model folder",
            hint=f"a model folder holds {CONFIG} and model.safetensors",
        )
    facts = read_json(path, CheckpointError)
    model_type = facts.get("model_type")
    if not isinstance(model_type, str) or model_type not in BY_TYPE:
        raise CheckpointError(
            f"{path}: the model type is {model_type!r}, which this transformer does not compute",
            hint=f"known model types: {', '.join(BY_TYPE)}",
        )
    family = BY_TYPE[model_type]
    try:
        with decoding(path, CheckpointError, fault="describes no model"):
            refuse_features(facts, family.computed)
            config = family.read(facts)
            return replace(config, **vars(decide_reading(facts, asked or Reading())))
    except KeyError as error:
        raise CheckpointError(f"{path} does not say {error.args[0]}") from None
    except ZeroDivisionError:
        raise CheckpointError(f"{path} gives the model no attention heads") from None
    except UsageError as error:
        raise CheckpointError(f"{path}: {error.sentence}", error.hint) from None


def config_facts(config: ModelConfig, layout: str, dtype: str) -> dict[str, Any]:
    """Return the contents of config.json as a released checkpoint of `layout` writes them.

    Added to the released keys: `mask_token_id`, so that the folder describes itself, and our own
    where the model type leaves open how it is to be read. Left out: `auto_map`, which names files
    of code that an export does not hold. Raises UsageError for a model that the layout cannot say.
    """
    family = TABLE[layout]
    reading = reading_facts(layout, Reading(config.attention, config.shift))
    facts = family.write(config)
    if reading["model_type"] != next(iter(family.readings)):
        del facts["architectures"]  # the class it names would read the weights otherwise
    ids = {f"{name}_token_id": vars(config)[f"{name}_id"] for name in ("bos", "eos", "mask", "pad")}
    facts |= {name: number for name, number in ids.items() if number is not None}
    facts |= reading | {"torch_dtype": dtype}
    if family.doubts(facts):  # such as a mask token in an autoregressive layout
        facts |= {ATTENTION_KEY: config.attention, SHIFT_KEY: config.shift}
    refuse_loss(config, family.read(facts), layout)
    return facts


def refuse_loss(config: ModelConfig, as_read: ModelConfig, layout: str) -> None:
    """Raise UsageError where a layout would make another model of what it is given."""
    reread = replace(as_read, attention=config.attention, shift=config.shift)
    for name, value in vars(config).items():
        if name not in NOT_SHAPE and vars(reread)[name] != value:
            raise UsageError(
                f"the {layout} layout cannot say that the model's {name} is {value}",
                f"it would be read as {vars(reread)[name]}",
            )


def choose_mask_id(config: ModelConfig, asked: int | None, in_vocabulary: int | None) -> int:
    """Return the mask id: asked for, else the tokenizer's, else the file's, else the family's.

    `in_vocabulary` is the id of the tokenizer's mask token, None without one. Raises UsageError for
    an asked id, CheckpointError for another, that cannot be the mask, or where nobody names one.
    """
    known = (asked, in_vocabulary, config.mask_id, TABLE[config.family].mask_id)
    mask_id = next((number for number in known if number is not None), None)
    hint = "say which id is the mask with --mask-id"
    if mask_id is None:
        raise CheckpointError("neither the model nor its tokenizer names a mask token", hint)
    fault = None
    if not 0 <= mask_id < config.vocab_size:
        fault = f"the mask id {mask_id} is outside the model's {config.vocab_size} ids"
    elif mask_id in (config.pad_id, config.eos_id, config.bos_id):
        fault = f"the mask id {mask_id} is also the model's bos, eos or pad id"
    if fault is None:
        return mask_id
    if asked is not None:
        raise UsageError(fault)
    raise CheckpointError(fault, hint=hint)
