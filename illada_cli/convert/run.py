"""The work of `illada convert`."""

from __future__ import annotations

import json

from illada_cli.convert.options import ConvertOptions
from illada_cli.ui import Talk, si
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import make_folder, writing_file
from illada_core.model.conversion import (
    Asked,
    Conversion,
    convert,
    differing_logits,
    plan_conversion,
)
from illada_core.model.families.family import Reading
from illada_core.model.weights import refuse_foreign_files


def run(asked: ConvertOptions, talk: Talk) -> None:
    """Look at the source, write the copy, and see that it is the same model."""
    if asked.merge_lora is not None and asked.verify:
        raise UsageError(
            "--verify compares with the source, which --merge-lora makes another model"
        )
    conversion = plan_conversion(
        asked.source,
        Asked(
            layout=asked.layout,
            dtype=asked.dtype,
            shard_bytes=asked.shard_bytes,
            adds_mask=asked.add_mask,
            writes_card=asked.card,
            reading=Reading(asked.attention, asked.shift),
            adapters=asked.merge_lora,
        ),
    )
    refuse_foreign_files(asked.output)
    if asked.dry_run:
        print(told(conversion, asked.as_json))
        return
    folder = asked.output.absolute()
    make_folder(folder.parent)
    with writing_file(folder):
        convert(conversion, folder)
    if asked.verify:
        difference = differing_logits(conversion, folder)
        if difference:
            raise CheckpointError(f"{folder} differs from its source by {difference:.3g} in logits")
        talk.say("loaded again: the logits are those of the source, bit for bit")
    print(told(conversion, asked.as_json))


def told(conversion: Conversion, as_json: bool) -> str:
    """Say what is, or would be, written."""
    facts = conversion.facts
    if as_json:
        return json.dumps(facts)
    rows = {**facts, "parameters": f"{facts['parameters']:,}", "bytes": f"{si(facts['bytes'])}B"}
    return "\n".join(f"{name:12} {value}" for name, value in rows.items() if value is not None)
