"""A mask token added to the files of a tokenizer that has none."""

from pathlib import Path
from typing import Any

from illada_core.errors import DataError
from illada_core.files import read_json, write_json
from illada_core.text.companions import CONFIG_FILE
from illada_core.text.tokenizer_files import TOKENIZER_FILE, copy_tokenizer

MASK_TOKEN = "<|mask|>"


def add_mask_token(source: Path, folder: Path, number: int) -> None:
    """Copy a tokenizer's files into a folder, with MASK_TOKEN as the id `number`.

    Text never becomes it: it is a control token. Raises DataError where the vocabulary has the
    text already.
    """
    copy_tokenizer(source, folder)
    content = read_json(folder / TOKENIZER_FILE, DataError)
    added: list[dict[str, Any]] = content.setdefault("added_tokens", [])
    vocabulary = content.get("model", {}).get("vocab", {})
    if MASK_TOKEN in vocabulary or any(each.get("content") == MASK_TOKEN for each in added):
        raise DataError(f"the vocabulary of {source} has a {MASK_TOKEN} that is no mask token")
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    token = {"id": number, "content": MASK_TOKEN, **dict.fromkeys(flags, False), "special": True}
    added.append(token)
    write_json(folder / TOKENIZER_FILE, content)
    config = read_json(folder / CONFIG_FILE)
    write_json(folder / CONFIG_FILE, {**config, "mask_token": MASK_TOKEN})
