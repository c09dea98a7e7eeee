"""A conversation: what the system says, the turns so far, and transcripts that generate accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from illada_core.decoding import decode_json
from illada_core.errors import DataError, UsageError
from illada_core.files import decoding, make_folder, read_bytes, write_file, writing_file
from illada_core.text.messages import Dialogue, Message, parse_dialogue


@dataclass
class Conversation:
    """Turns of user and assistant, after an optional word of the system.

    `file` is where it was loaded from or saved to: only that one is replaced unasked. `tools` are
    what it may call, `variables` what else a loaded one gives the template.
    """

    system: str | None = None
    turns: list[Message] = field(default_factory=list)
    file: Path | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dialogue(self) -> Dialogue:
        """All that the model is to read."""
        system = [Message("system", self.system)] if self.system else []
        return Dialogue((*system, *self.turns), self.tools, self.variables)

    def reset(self) -> None:
        """Begin anew; what the system says stays."""
        self.turns, self.file, self.tools, self.variables = [], None, None, {}

    def add(self, role: str, content: str) -> None:
        self.turns.append(Message(role, content))

    def save(self, path: Path) -> None:
        """Write the conversation as one JSON line. Raises UsageError rather than replace a file."""
        if not self.dialogue.messages:
            raise UsageError("there is nothing to save yet")
        with writing_file(path):
            if path.exists() and path != self.file:
                raise UsageError(f"{path} exists already", "give another name")
            self.write(path)
        self.file = path

    def keep(self, path: Path) -> None:
        """Write the conversation, replacing what was there; its folder is made if need be.

        Raises DataError while another does.
        """
        make_folder(path.absolute().parent)
        with writing_file(path):
            self.write(path)

    def write(self, path: Path) -> None:
        """Write the conversation as one JSON line."""
        line = json.dumps(self.dialogue.fields, ensure_ascii=False) + "\n"
        write_file(path, line.encode())

    def load(self, path: Path) -> None:
        """Take the last conversation of a file of JSON Lines. Raises UsageError or DataError."""
        try:
            lines = read_bytes(path).rstrip()
        except FileNotFoundError:
            raise UsageError(f"there is no file {path}") from None
        with decoding(path, fault="does not end with a line of JSON"):
            fields = decode_json(lines.rpartition(b"\n")[2])
        if not isinstance(fields, dict) or "messages" not in fields:
            raise DataError(f"the last line of {path} holds no messages")
        try:
            dialogue = parse_dialogue(fields, fields["messages"])
        except DataError as error:
            raise DataError(f"the last line of {path}: {error.sentence}") from None
        turns = list(dialogue.messages)
        has_system = turns[0].role == "system"
        self.system = turns[0].content if has_system else None
        self.turns = turns[has_system:]
        self.tools, self.variables = dialogue.tools, dialogue.variables
        self.file = path
