"""A conversation is written by one chat at a time, whole."""

import json

import pytest

from illada_cli.chat.conversation import Conversation
from illada_core.errors import DataError, UsageError
from illada_core.files import writing_file


def test_a_file_that_another_writes_is_neither_saved_to_nor_kept(tmp_path):
    path, conversation = tmp_path / "state" / "chat.jsonl", Conversation()
    conversation.add("user", "Hello.")
    conversation.keep(path)
    path.unlink()
    with writing_file(path):
        for write in (conversation.save, conversation.keep):
            with pytest.raises(DataError, match="another run is writing"):
                write(path)
    assert conversation.file is None
    conversation.keep(path)
    with pytest.raises(UsageError, match="exists already"):
        conversation.save(path)
    assert json.loads(path.read_text())["messages"] == [{"role": "user", "content": "Hello."}]
    assert list(path.parent.iterdir()) == [path]
