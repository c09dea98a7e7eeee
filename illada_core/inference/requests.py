"""What is asked to be written: a prompt, a conversation, ids, or a text with gaps."""

from dataclasses import dataclass
from typing import Any, Literal

from illada_core.errors import DataError
from illada_core.text.harmless import strings_in
from illada_core.text.messages import parse_dialogue

KINDS = ("prompt", "messages", "prompt_ids", "infill", "infill_ids")


@dataclass(frozen=True)
class Request:
    """One thing to write: exactly one of KINDS, and where it came from.

    `value` is a text, ids, or for messages a Dialogue.
    """

    kind: str
    value: Any
    line: int | None = None
    id: Any = None

    @property
    def texts(self) -> list[str]:
        """The texts it is made of; none where it is ids."""
        if self.kind == "messages":
            return [*strings_in(self.value.fields)]
        return [self.value] if isinstance(self.value, str) else []

    @property
    def has_gaps(self) -> bool:
        """Whether gaps are to be filled, not a prompt continued."""
        return self.kind in ("infill", "infill_ids")


@dataclass(frozen=True)
class Prompting:
    """How prompts become ids: bos in front (None: as the files say), and what is too long cut."""

    bos: bool | None = None
    truncate: Literal["left"] | None = None


def read_request(line: int | None, fields: dict[str, Any]) -> Request:
    """Read the fields of a request. Raises DataError unless it asks for exactly one thing."""
    kinds = [kind for kind in KINDS if kind in fields]
    if len(kinds) != 1:
        found = " and ".join(kinds) if kinds else "none"
        raise DataError(f"a line must hold one of {', '.join(KINDS)}, and this holds {found}")
    kind, value = kinds[0], fields[kinds[0]]
    if kind == "messages":
        value = parse_dialogue(fields, value)
    elif kind in ("prompt_ids", "infill_ids"):
        value = checked_ids(kind, value)
    elif not isinstance(value, str):
        raise DataError(f"{kind} must be a string")
    if not value:
        raise DataError("the prompt is empty")
    return Request(kind, value, line, fields.get("id"))


def checked_ids(name: str, value: Any) -> list[int]:
    """Check that a value is a list of whole numbers. Raises DataError."""
    if not isinstance(value, list) or any(type(item) is not int for item in value):
        raise DataError(f"{name} must be a list of whole numbers")
    return value
