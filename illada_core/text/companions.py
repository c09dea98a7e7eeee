"""What the files beside a tokenizer.json say, read as transformers reads them.

Which token has which role, which tokens are added, the chat templates, and what a plain text begins
with. Where two files disagree one wins, as in transformers, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from illada_core.decoding import Count, TokenId, shaped
from illada_core.files import decoding, read_bytes, read_json
from illada_core.text.special_tokens import NAMED_ROLES, AddedToken, added_token, name_in

CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
TEMPLATE_FILE = "chat_template.jinja"
OLD_TEMPLATE_FILE = "chat_template.json"
TEMPLATE_FOLDER = "additional_chat_templates"
MODEL_CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
DEFAULT_TEMPLATE = "default"


@dataclass(frozen=True)
class Item:
    """What stands at a place of a post-processor's template: the text, or a special token."""

    id: str
    type_id: int = 0


@dataclass(frozen=True)
class Beside:
    """What the files beside tokenizer.json say; `named` holds `eos_token` and so on."""

    folder: Path
    config: Mapping[str, Any]
    named: Mapping[str, Any]
    listed: Mapping[str, Any]
    templates: Mapping[str, str]
    notices: tuple[str, ...]

    @property
    def has_decoder(self) -> bool:
        """Whether tokenizer_config.json lists added tokens: then no older file is looked at."""
        return isinstance(self.config.get("added_tokens_decoder"), dict)


def read_beside(folder: Path) -> Beside:
    """Read the files beside a tokenizer.json. Raises DataError for one that is not as it should."""
    config = read_json(folder / CONFIG_FILE)
    old_map = read_json(folder / MAP_FILE)
    named = {key: value for key, value in config.items() if key.endswith("_token")}
    is_current = isinstance(config.get("added_tokens_decoder"), dict)
    notices = list(disagreements(named, old_map, CONFIG_FILE if is_current else MAP_FILE))
    if not is_current:
        named |= {key: value for key, value in old_map.items() if key.endswith("_token")}
    templates, told = read_templates(folder, config)
    listed = read_json(folder / ADDED_FILE)
    return Beside(folder, config, named, listed, templates, (*notices, *told))


def disagreements(
    named: Mapping[str, Any], old_map: Mapping[str, Any], winner: str
) -> Iterator[str]:
    """Say of which roles two files name different tokens."""
    for role in NAMED_ROLES:
        first, second = (name_in(file.get(f"{role}_token")) for file in (named, old_map))
        if first and second and first != second:
            yield (
                f"{CONFIG_FILE} calls {first} the {role} token, {MAP_FILE} {second}: "
                f"{winner} decides, as in transformers"
            )


def read_templates(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return the chat templates by name, and what the files disagree on.

    Files of their own win over tokenizer_config.json, and that over a processor's
    chat_template.json.
    """
    own: dict[str, str] = {}
    if (folder / TEMPLATE_FILE).is_file():
        own[DEFAULT_TEMPLATE] = read_template(folder / TEMPLATE_FILE)
    for file in sorted((folder / TEMPLATE_FOLDER).glob("*.jinja")):
        own.setdefault(file.stem, read_template(file))
    found = [
        (TEMPLATE_FILE, own),
        (CONFIG_FILE, named_templates(config.get("chat_template"), folder / CONFIG_FILE)),
        (OLD_TEMPLATE_FILE, old_templates(folder / OLD_TEMPLATE_FILE)),
    ]
    found = [(name, templates) for name, templates in found if templates]
    if not found:
        return {}, []
    winner, templates = found[0]
    notices = [
        f"{winner} and {name} hold different chat templates: {winner} decides"
        for name, others in found[1:]
        if others.get(DEFAULT_TEMPLATE) != templates.get(DEFAULT_TEMPLATE)
    ]
    if DEFAULT_TEMPLATE not in templates:
        notices.append(
            f"{winner} has chat templates named {', '.join(templates)}, and none is the default"
        )
    return templates, notices


def read_template(path: Path) -> str:
    """Return the text of a file with a template."""
    with decoding(path, fault="is not UTF-8"):
        return read_bytes(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def old_templates(path: Path) -> dict[str, str]:
    """Return the templates of a processor's file: an object with one, or with one by name."""
    return named_templates(read_json(path).get("chat_template"), path)


def named_templates(value: Any, path: Path) -> dict[str, str]:
    """Return templates by name, from one text, an object, or a list of named ones."""
    if isinstance(value, str):
        return {DEFAULT_TEMPLATE: value}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        listed = [(item.get("name"), item.get("template")) for item in value]
        if all(isinstance(name, str) for name, _ in listed):
            value = dict(listed)
    if value is None:
        return {}
    with decoding(path, fault="holds no chat template"):
        return shaped(value, dict[str, str], "chat_template")


def merged_tokens(
    own: Sequence[AddedToken], vocabulary: Mapping[str, int], beside: Beside
) -> tuple[tuple[AddedToken, ...], list[str]]:
    """Return the added tokens of all files, and what these disagree on.

    tokenizer_config.json decides about flags, tokenizer.json about ids.
    """
    notices: list[str] = []
    merged = {token.content: token for token in own}
    roles = {name_in(beside.named.get(f"{role}_token")) for role in NAMED_ROLES}
    for token in listed_tokens(beside, roles):
        known = merged.get(token.content)
        held = known.id if known else vocabulary.get(token.content, token.id)
        if held != token.id:
            notices.append(
                f"{token.content} has the id {held} in tokenizer.json, {token.id} beside it: "
                f"it is {held}"
            )
        if known and known.special != token.special:
            means = "special" if token.special else "not special"
            notices.append(f"{token.content} is {means} by {CONFIG_FILE}, not by tokenizer.json")
        if beside.has_decoder or not known:
            merged[token.content] = replace(token, id=held)
    for name in roles.intersection(merged):
        assert name is not None
        merged[name] = replace(merged[name], special=True)
    notices += [
        f"no file gives the {role} token {name} an id, so it is passed over"
        for role in NAMED_ROLES
        if (name := name_in(beside.named.get(f"{role}_token")))
        and name not in merged
        and name not in vocabulary
    ]
    return tuple(sorted(merged.values(), key=lambda token: token.id)), notices


def listed_tokens(beside: Beside, roles: set[str | None]) -> Iterator[AddedToken]:
    """Yield the added tokens that files beside tokenizer.json list."""
    if beside.has_decoder:
        with decoding(beside.folder / CONFIG_FILE, fault="lists no added tokens"):
            listed = shaped(beside.config, dict[str, Any])["added_tokens_decoder"]
            listed = shaped(listed, dict[str, dict[str, Any]], "added_tokens_decoder")
            for number, fields in listed.items():
                yield added_token(fields, int(number))
        return
    with decoding(beside.folder / ADDED_FILE, fault="lists no added tokens"):
        ids = shaped(dict(beside.listed), dict[str, Count])
    for name, token_id in ids.items():
        yield AddedToken(token_id, name, special=name in roles, normalized=name not in roles)


def misplaced(own: Sequence[AddedToken], vocabulary: Mapping[str, int]) -> list[str]:
    """Say if `tokenizers` counts added tokens otherwise than tokenizer.json does."""
    following = max(vocabulary.values(), default=-1) + 1
    for token in own:
        counted = vocabulary.get(token.content, following)
        following += counted == following
        if counted != token.id:
            return [
                f"tokenizer.json gives {token.content} the id {token.id}, where the library "
                f"tokenizers counts {counted}: {token.id} it is"
            ]
    return []


def opening_ids(post_processor: Any) -> tuple[int, ...]:
    """Return the ids that a post-processor puts in front of a text.

    ValueError for one that is not as `tokenizers` writes it.
    """
    if not isinstance(post_processor, dict):
        return ()
    match post_processor.get("type"):
        case "TemplateProcessing":
            items = shaped(post_processor.get("single"), list[dict[str, Item]], "single")
            known = shaped(
                post_processor.get("special_tokens"), dict[str, dict[str, Any]], "special_tokens"
            )
            ids: list[TokenId] = []
            for item in items:
                if "SpecialToken" not in item:
                    break
                found = known.get(item["SpecialToken"].id, {}).get("ids")
                ids += shaped(found, list[TokenId], "the ids of a special token")
            return tuple(ids)
        case "BertProcessing" | "RobertaProcessing":
            return (shaped(post_processor.get("cls"), tuple[str, TokenId], "cls")[1],)
        case "Sequence":
            parts = [opening_ids(part) for part in post_processor["processors"]]
            return tuple(number for part in reversed(parts) for number in part)
    return ()


def end_ids_beside(folder: Path) -> list[int]:
    """Return the ids that end a text according to a model's files, if a model lies there."""
    ids: list[int] = []
    for name in (MODEL_CONFIG_FILE, GENERATION_FILE):
        listed = read_json(folder / name).get("eos_token_id")
        numbers = listed if isinstance(listed, list) else [listed]
        ids += [number for number in numbers if type(number) is int]
    return ids
