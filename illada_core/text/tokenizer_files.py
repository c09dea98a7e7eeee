"""What tokenizer.json and the files beside it say, read without any tokenizer library.

Ids, control tokens and templates come from here (law 10): libraries differ in what they tell.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from illada_core.errors import DataError, UsageError
from illada_core.files import parse_json, read_json, write_file

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
MODEL_CONFIG_FILE = "config.json"
# What belongs to a tokenizer.json and travels with it, into datasets and models.
COMPANIONS = (CONFIG_FILE, "special_tokens_map.json", "added_tokens.json", TEMPLATE_FILE)

# Where no file beside tokenizer.json names a control token: the names known families use.
KNOWN_NAMES = {
    "bos": ("<[BOS]>", "<|startoftext|>", "<|begin_of_text|>", "<s>", "<bos>"),
    "pad": ("<[PAD]>", "<|pad|>", "<pad>", "[PAD]"),
    "eos": (
        "<[EOS]>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "</s>",
        "<eos>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|return|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    "mask": ("<[MASK]>", "<|mdm_mask|>", "<|mask|>", "<mask>", "[MASK]"),
}


@dataclass(frozen=True)
class SpecialIds:
    """The ids of the control tokens, None for those a tokenizer lacks."""

    bos: int | None
    pad: int | None
    eos: int | None
    mask: int | None


@dataclass(frozen=True)
class TokenizerRecord:
    """Which tokenizer made a dataset; `vocab_size` is its largest id + 1, the mask id included."""

    sha256: str
    vocab_size: int
    special: SpecialIds


@dataclass(frozen=True)
class TokenizerFiles:
    """One tokenizer as its files describe it.

    `data` and `json` are the content of tokenizer.json; `config` is what a person changed of
    tokenizer_config.json.
    """

    path: Path
    data: bytes
    json: dict[str, Any]
    special: SpecialIds
    config: dict[str, str] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """The hash of tokenizer.json."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token to id, added tokens included."""
        return {**ids_of_vocabulary(self.json), **ids_of_added_tokens(self.json)}

    @cached_property
    def vocab_size(self) -> int:
        """The largest id + 1."""
        return max(self.ids.values()) + 1

    @cached_property
    def chat_template(self) -> str | None:
        """The text of the chat template, if there is one."""
        return read_chat_template(self.path.parent)

    @property
    def controls(self) -> dict[str, int]:
        """Token to id of the added tokens that text can never become."""
        kept = {token["content"] for token in ordinary_added_tokens(self.json)}
        return {
            token: number
            for token, number in ids_of_added_tokens(self.json).items()
            if token not in kept
        }


def read_tokenizer_files(path: Path) -> TokenizerFiles:
    """Read a tokenizer.json, or the one in a folder; DataError if there is no usable one."""
    if path.is_dir():
        path = path / TOKENIZER_FILE
    if not path.exists():
        raise DataError(
            f"no tokenizer at {path}",
            "train one with: illada tokenize corpus/ --train-vocab 32768 -o tokenizer.json",
        )
    data = path.read_bytes()
    try:
        content = parse_json(data, path)
        vocabulary, added = ids_of_vocabulary(content), ids_of_added_tokens(content)
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a tokenizer.json of the Hugging Face kind") from error
    if not vocabulary:
        raise DataError(f"{path} holds an empty vocabulary")
    return TokenizerFiles(path, data, content, find_special_ids(path.parent, vocabulary, added))


def ids_of_vocabulary(content: dict[str, Any]) -> dict[str, int]:
    """Return token to id of the model's own vocabulary."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of piece and score
        return {piece: number for number, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def ids_of_added_tokens(content: dict[str, Any]) -> dict[str, int]:
    """Return token to id of what was added to the vocabulary."""
    return {token["content"]: token["id"] for token in content.get("added_tokens") or ()}


def find_special_ids(folder: Path, vocabulary: dict[str, int], added: dict[str, int]) -> SpecialIds:
    """Find the control tokens: named by a file beside, else known by name among added tokens."""
    config, model = read_json(folder / CONFIG_FILE), read_json(folder / MODEL_CONFIG_FILE)

    def find(role: str) -> int | None:
        named = config.get(f"{role}_token")
        text = named.get("content") if isinstance(named, dict) else named
        if text is not None:
            return added.get(text, vocabulary.get(text))
        by_name = [added[name] for name in KNOWN_NAMES[role] if name in added]
        listed = model.get(f"{role}_token_id")
        first = listed[0] if isinstance(listed, list) and listed else listed
        return first if isinstance(first, int) else (by_name[0] if by_name else None)

    return SpecialIds(bos=find("bos"), pad=find("pad"), eos=find("eos"), mask=find("mask"))


def with_eos(files: TokenizerFiles, token: str) -> TokenizerFiles:
    """Return the files with another end token; UsageError if the vocabulary lacks it."""
    if token not in files.ids:
        likely = [name for name in files.controls if "reserved" not in name]
        raise UsageError(
            f"the tokenizer has no token {token}",
            f"it has {' '.join(likely[:20])}" if likely else None,
        )
    special = replace(files.special, eos=files.ids[token])
    return replace(files, special=special, config={**files.config, "eos_token": token})


def with_mask(files: TokenizerFiles, token: str) -> TokenizerFiles:
    """Return the files with this mask token, which is added if the vocabulary lacks it."""
    config = {**files.config, "mask_token": token}
    if token in files.ids:
        return replace(files, special=replace(files.special, mask=files.ids[token]), config=config)
    added = {
        "id": files.vocab_size,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    content = {**files.json, "added_tokens": [*(files.json.get("added_tokens") or ()), added]}
    return TokenizerFiles(
        path=files.path,
        data=json.dumps(content, ensure_ascii=False, indent=2).encode(),
        json=content,
        special=replace(files.special, mask=files.vocab_size),
        config=config,
    )


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer.json and its companions into a folder, as they are.

    `source` is the file or the folder that holds it. Raises DataError if there is none.
    """
    file = source / TOKENIZER_FILE if source.is_dir() else source
    if not file.is_file():
        raise DataError(f"{source} holds no {TOKENIZER_FILE}")
    write_file(folder / TOKENIZER_FILE, file.read_bytes())
    for name in COMPANIONS:
        if (file.parent / name).is_file():
            write_file(folder / name, (file.parent / name).read_bytes())


def write_tokenizer_files(files: TokenizerFiles, folder: Path) -> None:
    """Write tokenizer.json and what belongs to it into a folder, with what a person changed."""
    write_file(folder / TOKENIZER_FILE, files.data)
    for name in COMPANIONS:
        beside = files.path.parent / name
        if beside.is_file() and not (name == CONFIG_FILE and files.config):
            write_file(folder / name, beside.read_bytes())
    if files.config:
        config = {**read_json(files.path.parent / CONFIG_FILE), **files.config}
        write_file(folder / CONFIG_FILE, json.dumps(config, ensure_ascii=False, indent=2).encode())


def encoding_json(content: dict[str, Any]) -> str:
    """Return a tokenizer.json by which no text can become a control token, and nothing is added.

    Added tokens go; only runs of spaces stay, which are ordinary text to the tokenizers that add
    them.
    """
    spaces = ordinary_added_tokens(content)
    gone = ids_of_added_tokens(content).keys() - {token["content"] for token in spaces}
    return plain_json({**content, "added_tokens": spaces}, gone)


def decoding_json(content: dict[str, Any]) -> str:
    """Return a tokenizer.json that knows every token by its id."""
    return plain_json(content, set())


def plain_json(content: dict[str, Any], gone: set[str]) -> str:
    """Return a tokenizer.json that cuts, pads and adds nothing, without the tokens in `gone`.

    Tokens that merges build stay. Ids that the vocabulary lacks get names no text has: libraries
    refuse a vocabulary with gaps, or count on there being none.
    """
    model = dict(content["model"])
    if isinstance(model["vocab"], dict):
        built = {"".join(pair_of(merge)) for merge in model.get("merges") or ()} if gone else set()
        hidden = {token for token in gone - built if len(token) > 1} - {model.get("unk_token")}
        kept = {token: id for token, id in model["vocab"].items() if token not in hidden}
        added = ids_of_added_tokens(content).values()
        every = range(max([*model["vocab"].values(), *added], default=0))
        missing = set(every).difference(kept.values(), added)
        model["vocab"] = {**kept, **{unwritable(id): id for id in missing}}
    else:  # Unigram, which finds its pieces in the text without any merge
        model["vocab"] = [
            [unwritable(id) if piece in gone and id != model.get("unk_id") else piece, score]
            for id, (piece, score) in enumerate(model["vocab"])
        ]
    changed = {"truncation": None, "padding": None, "post_processor": None, "model": model}
    return json.dumps({**content, **changed}, ensure_ascii=False)


def unwritable(id: int) -> str:
    """Return a name for an id that stands in no text: a non-character and a hash."""
    return "\U0010ffff" + hashlib.sha256(str(id).encode()).hexdigest()


def ordinary_added_tokens(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the added tokens that are text like any other: runs of spaces."""
    added = content.get("added_tokens") or ()
    return [token for token in added if not token["special"] and token["content"].isspace()]


def pair_of(merge: str | list[str]) -> list[str]:
    """Return the two parts of a merge in either way of writing it."""
    return merge.split(" ") if isinstance(merge, str) else merge


def read_chat_template(folder: Path) -> str | None:
    """Return the chat template beside a tokenizer, if there is one."""
    file = folder / TEMPLATE_FILE
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = read_json(folder / CONFIG_FILE).get("chat_template")
    if isinstance(template, list):
        by_name = {item["name"]: item["template"] for item in template}
        template = by_name.get("default")
    return template
