"""Templates of prompts: text with the fields of an item in braces, `{question}`. No torch.

What a field holds is never read as a template, and braces around anything else stay as they are.
"""

import re
from collections.abc import Mapping

from illada_core.errors import DataError

FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Return a template with fields in place of their names.

    Raises DataError for a field that the item lacks.
    """

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in fields:
            raise DataError(f"it has no field {name}, which the prompt of this task needs")
        return fields[name]

    return FIELD.sub(value, template)


def check_template(template: str) -> None:
    """Raise ValueError for braces that look like a field's and are none."""
    rest = FIELD.sub("", template)
    if wrong := re.search(r"\{\w+\}", rest):
        raise ValueError(f"{wrong.group()} is no field: fields have small letters")
