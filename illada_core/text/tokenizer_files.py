"""What tokenizer.json and the files beside it say, read without any tokenizer library.

Ids, control tokens and templates come from here (law 10): libraries differ in what they tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from illada_core.decoding import TokenId, shaped
from illada_core.errors import DataError, UsageError
from illada_core.files import (
    decoding,
    parse_json,
    read_bytes,
    read_json,
    write_file,
    write_json,
)
from illada_core.text.companions import (
    ADDED_FILE,
    CONFIG_FILE,
    DEFAULT_TEMPLATE,
    MAP_FILE,
    MODEL_CONFIG_FILE,
    OLD_TEMPLATE_FILE,
    TEMPLATE_FILE,
    TEMPLATE_FOLDER,
    Beside,
    end_ids_beside,
    merged_tokens,
    misplaced,
    opening_ids,
    read_beside,
)
from illada_core.text.joints import lost_bytes
from illada_core.text.library_json import as_class_builds, class_notices
from illada_core.text.special_tokens import (
    AddedToken,
    SpecialIds,
    added_token,
    control_tokens,
    find_special_ids,
)

TOKENIZER_FILE = "tokenizer.json"
# What belongs to a tokenizer.json and travels with it, into datasets and models.
COMPANIONS = (
    CONFIG_FILE,
    MAP_FILE,
    ADDED_FILE,
    TEMPLATE_FILE,
    OLD_TEMPLATE_FILE,
    TEMPLATE_FOLDER,
)
# The name under which a sequence of each part holds what it consists of.
PARTS = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
MOST_UNUSED_IDS = 1 << 16


@dataclass(frozen=True)
class TokenizerRecord:
    """Which tokenizer made a dataset; `vocab_size` is its largest id + 1, the mask id included."""

    sha256: str
    vocab_size: TokenId
    special: SpecialIds


@dataclass(frozen=True)
class TokenizerFiles:
    """One tokenizer as its files describe it.

    `data` and `json` are the content of tokenizer.json, `added` the added tokens of all files,
    `beside` what the others say; `config` is what a person changed of tokenizer_config.json.
    `notices` say what the files disagree on.
    """

    path: Path
    data: bytes
    json: dict[str, Any]
    added: tuple[AddedToken, ...]
    special: SpecialIds
    beside: Beside
    notices: tuple[str, ...] = ()
    config: dict[str, str] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """The hash of tokenizer.json."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token to id, added tokens included."""
        added = {token.content: token.id for token in self.added}
        return {**ids_of_vocabulary(self.json), **added}

    @cached_property
    def vocab_size(self) -> int:
        """The largest id + 1."""
        return max(self.ids.values()) + 1

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """The chat templates by name; that of most tokenizers is `default`."""
        return self.beside.templates

    @property
    def chat_template(self) -> str | None:
        """The text of the chat template, if there is one."""
        return self.beside.templates.get(DEFAULT_TEMPLATE)

    @cached_property
    def opening_ids(self) -> tuple[int, ...]:
        """What a plain text begins with: bos, or what the post-processor puts there."""
        ids = opening_ids(self.json.get("post_processor"))
        adds_bos = self.beside.config.get("add_bos_token") is True and self.special.bos is not None
        return ids or ((self.special.bos,) if adds_bos else ())  # type: ignore[return-value]

    @cached_property
    def unknown_id(self) -> int | None:
        """The id of what the vocabulary lacks, None if no token stands for it."""
        model = self.library_content["model"]
        if isinstance(model["vocab"], list):
            number = model.get("unk_id")
            return number if type(number) is int else None
        return self.ids.get(model.get("unk_token") or "")

    @cached_property
    def library_content(self) -> dict[str, Any]:
        """The content of tokenizer.json as transformers builds the tokenizer."""
        return as_class_builds(self.json, self.beside.config)

    @cached_property
    def controls(self) -> dict[str, int]:
        """Token to id of the added tokens that text can never become."""
        return control_tokens(self.added, self.special, end_ids_beside(self.path.parent))


def read_tokenizer_files(path: Path) -> TokenizerFiles:
    """Read a tokenizer.json, or the one in a folder; DataError if there is no usable one."""
    if path.is_dir():
        path = path / TOKENIZER_FILE
    if not path.exists():
        raise DataError(
            f"no tokenizer at {path}",
            "train one with: illada tokenize corpus/ --train-vocab 32768 -o tokenizer.json",
        )
    data = read_bytes(path)
    content = parse_json(data, path)
    with decoding(path, fault="is not a tokenizer.json of the Hugging Face kind"):
        check_parts(content)
        vocabulary, own = ids_of_vocabulary(content), added_tokens_of(content)
        opening = opening_ids(content.get("post_processor"))
    if not vocabulary:
        raise DataError(f"{path} holds an empty vocabulary")
    beside = read_beside(path.parent)
    added, told = merged_tokens(own, vocabulary, beside)
    check_ids(path, vocabulary, added)
    special = find_special_ids(
        named=beside.named,
        model=read_json(path.parent / MODEL_CONFIG_FILE),
        added={token.content: token.id for token in added},
        vocabulary=vocabulary,
        where=str(path.parent),
    )
    notices = [
        *beside.notices,
        *told,
        *misplaced(own, vocabulary),
        *lost_bytes(content),
        *class_notices(content, beside.config),
    ]
    if (
        beside.config.get("add_bos_token") is (special.bos not in opening)
        and special.bos is not None
    ):
        notices.append(bos_notice(bool(opening)))
    return TokenizerFiles(path, data, content, added, special, beside, tuple(notices))


def bos_notice(is_added: bool) -> str:
    """Say that two files disagree on whether a text begins with bos."""
    if is_added:
        return f"{CONFIG_FILE} wants no bos before a text, tokenizer.json puts it there: it stands"
    return f"{CONFIG_FILE} wants bos before a text, tokenizer.json puts none there: it is added"


def ids_of_vocabulary(content: dict[str, Any]) -> dict[str, int]:
    """Return token to id of the model's own vocabulary. Raises ValueError where there is none."""
    vocabulary = shaped(content.get("model"), dict[str, Any], "model").get("vocab")
    if isinstance(vocabulary, list):  # Unigram: pairs of piece and score
        pieces = shaped(vocabulary, list[tuple[str, float]], "model.vocab")
        return {piece: number for number, (piece, _) in enumerate(pieces)}
    return shaped(vocabulary, dict[str, int], "model.vocab")


def added_tokens_of(content: dict[str, Any]) -> list[AddedToken]:
    """Return the tokens that a tokenizer.json adds to its vocabulary. Raises ValueError."""
    listed = shaped(content.get("added_tokens"), list[dict[str, Any]] | None, "added_tokens")
    return [added_token(token, token.get("id")) for token in listed or ()]


def check_parts(content: dict[str, Any]) -> None:
    """Raise ValueError for a part of a tokenizer.json that is no object, or one without its type.

    What else the parts must be, the library says that loads them.
    """
    for name, inner in PARTS.items():
        waiting = [content.get(name)]
        while waiting:
            part = shaped(waiting.pop(), dict[str, Any] | None, name)
            if part is None:
                continue
            if shaped(part.get("type"), str, f"{name}.type") == "Sequence":
                waiting += shaped(part.get(inner), list[Any], f"{name}.{inner}")


def check_ids(path: Path, vocabulary: Mapping[str, int], added: Sequence[AddedToken]) -> None:
    """Raise DataError for ids that are negative, or far more than there are tokens: a table of
    every id is made.
    """
    ids = [*vocabulary.values(), *(token.id for token in added)]
    if min(ids) < 0 or max(ids) > len(ids) + MOST_UNUSED_IDS:
        raise DataError(
            f"{path} gives a token the id {min(ids) if min(ids) < 0 else max(ids)}, "
            f"and there are {len(ids):,} tokens",
        )


def with_eos(files: TokenizerFiles, token: str) -> TokenizerFiles:
    """Return the files with another end token; UsageError if none was added by this name."""
    number = next((added.id for added in files.added if added.content == token), None)
    if number is None:
        likely = [name for name in files.controls if "reserved" not in name]
        raise not_added(files, token) or UsageError(
            f"the tokenizer has no token {token}",
            f"it has {' '.join(likely[:20])}" if likely else None,
        )
    special = replace(files.special, eos=number)
    return replace(files, special=special, config={**files.config, "eos_token": token})


def with_mask(files: TokenizerFiles, token: str) -> TokenizerFiles:
    """Return the files with this mask token, which is added if the vocabulary lacks it.

    UsageError if it is an ordinary word.
    """
    config = {**files.config, "mask_token": token}
    number = next((added.id for added in files.added if added.content == token), None)
    if number is not None:
        return replace(files, special=replace(files.special, mask=number), config=config)
    if error := not_added(files, token):
        raise error
    new = AddedToken(files.vocab_size, token, special=True, normalized=False)
    content = {
        **files.json,
        "added_tokens": [*(files.json.get("added_tokens") or ()), asdict(new)],
    }
    return replace(
        files,
        data=json.dumps(content, ensure_ascii=False, indent=2).encode(),
        json=content,
        added=(*files.added, new),
        special=replace(files.special, mask=new.id),
        config=config,
    )


def not_added(files: TokenizerFiles, token: str) -> UsageError | None:
    """Return the error that a word of the vocabulary is no control token, if it is one."""
    if token not in files.ids:
        return None
    return UsageError(
        f"{token!r} is an ordinary word of the vocabulary, so it cannot be a control token",
        "name one of the added_tokens of tokenizer.json, or for --mask a new one",
    )


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer.json and its companions into a folder, as they are.

    `source` is the file or the folder that holds it. Raises DataError if there is none.
    """
    file = source / TOKENIZER_FILE if source.is_dir() else source
    if not file.is_file():
        raise DataError(f"{source} holds no {TOKENIZER_FILE}")
    write_file(folder / TOKENIZER_FILE, file.read_bytes())
    for beside in companions(file.parent):
        copy_companion(beside, file.parent, folder)


def companions(folder: Path) -> Iterator[Path]:
    """Yield the files that lie beside a tokenizer.json."""
    for name in COMPANIONS:
        path = folder / name
        yield from [path] if path.is_file() else sorted(path.glob("*.jinja"))


def copy_companion(file: Path, source: Path, folder: Path) -> None:
    """Copy a file that lies below `source` to the same place below `folder`."""
    copy = folder / file.relative_to(source)
    copy.parent.mkdir(exist_ok=True)
    write_file(copy, file.read_bytes())


def write_tokenizer_files(files: TokenizerFiles, folder: Path) -> None:
    """Write tokenizer.json and what belongs to it into a folder, with what a person changed."""
    write_file(folder / TOKENIZER_FILE, files.data)
    changed = {CONFIG_FILE: files.config, MAP_FILE: files.config} if files.config else {}
    source = files.path.parent
    for beside in companions(source):
        if beside.name in changed:
            write_json(folder / beside.name, {**read_json(beside), **changed[beside.name]})
        else:
            copy_companion(beside, source, folder)
    if files.config and not (source / CONFIG_FILE).is_file():
        write_json(folder / CONFIG_FILE, files.config)
