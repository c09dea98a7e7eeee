"""Copies of a tokenizer.json for the libraries that encode and decode by it.

In the copy for encoding no text is a control token: their names become such as no text has, and
merges that make one go. All other added tokens stay what they are, with their flags and their ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from illada_core.errors import DataError
from illada_core.text.special_tokens import AddedToken


def as_class_builds(content: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json as the class that tokenizer_config.json names is built from it.

    transformers 5 takes no more than the vocabulary of a Llama tokenizer from its file: a space
    goes in front of a text that has none, where the file puts it in front of every text.
    """
    name = config.get("tokenizer_class")
    is_llama = isinstance(name, str) and name.removesuffix("Fast") == "LlamaTokenizer"
    if not is_llama or content["model"].get("type") != "BPE" or has_byte_level(content):
        return content
    spaced = config.get("add_prefix_space")
    scheme = "always" if config.get("legacy", False) else "first"
    metaspace = {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": "never" if spaced is False else scheme,
        "split": False,
    }
    model = {**content["model"], "unk_token": None, "fuse_unk": True, "byte_fallback": True}
    return {**content, "normalizer": None, "pre_tokenizer": metaspace, "model": model}


def class_notices(content: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Say where the class that tokenizer_config.json names marks spaces as its file does not."""
    built = as_class_builds(dict(content), config)
    if built is content or space_scheme(built) == space_scheme(content):
        return []
    return [
        f"{config['tokenizer_class']} marks the space before a text as that class does "
        f"({space_scheme(built)}), not as tokenizer.json says ({space_scheme(content)})"
    ]


def space_scheme(content: Mapping[str, Any]) -> str:
    """Return when a space goes in front of a text: always, first (if it has none) or never."""
    steps = parts_of(content.get("normalizer"), "normalizers")
    if any(step.get("type") == "Prepend" for step in steps):
        return "always"
    steps = parts_of(content.get("pre_tokenizer"), "pretokenizers")
    marks = [step for step in steps if step.get("type") == "Metaspace"]
    return str(marks[0].get("prepend_scheme", "always")) if marks else "never"


def parts_of(value: Any, name: str) -> list[dict[str, Any]]:
    """Return the parts that a normalizer or pre-tokenizer consists of; `name` is its list's."""
    if not isinstance(value, dict):
        return []
    if value.get("type") != "Sequence":
        return [value]
    return [part for inner in value.get(name) or () for part in parts_of(inner, name)]


def has_byte_level(content: Mapping[str, Any]) -> bool:
    """Tell whether any part of a tokenizer.json works on bytes as letters."""
    parts = {key: value for key, value in content.items() if key not in ("model", "added_tokens")}
    return '"ByteLevel"' in json.dumps(parts)


def encoding_json(
    content: Mapping[str, Any], added: Sequence[AddedToken], controls: Mapping[str, int]
) -> str:
    """Return a tokenizer.json by which no text becomes a control token, and nothing is added."""
    kept = [token for token in added if token.content not in controls]
    if not kept:
        content = without_metaspace(content)
    return library_json(content, kept, frozenset(controls.values()))


def without_metaspace(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tokenizer.json that marks spaces before it splits, if it splits nowhere.

    The fast engine knows no Metaspace. Where no added token cuts a text the two are the same.
    """
    mark = content.get("pre_tokenizer") or {}
    if mark.get("type") != "Metaspace" or mark.get("split") is not False or content["normalizer"]:
        return content
    sign = mark["replacement"]
    steps = [{"type": "Replace", "pattern": {"String": " "}, "content": sign}]
    if mark.get("prepend_scheme") != "never":
        start = {"Regex": rf"\A(?!{sign})"}
        steps.append({"type": "Replace", "pattern": start, "content": sign})
    normalizer = {"type": "Sequence", "normalizers": steps}
    return {**content, "normalizer": normalizer, "pre_tokenizer": None}


def decoding_json(content: Mapping[str, Any], added: Sequence[AddedToken]) -> str:
    """Return a tokenizer.json that knows every token by its id."""
    return library_json(content, added, frozenset())


def library_json(
    content: Mapping[str, Any], added: Sequence[AddedToken], hidden_ids: Collection[int]
) -> str:
    """Return a tokenizer.json that cuts, pads, adds and drops nothing, and hides some ids.

    Libraries count added tokens on from the vocabulary, whatever id the file gives: so ids that no
    token has get names that no text has.
    """
    model = {**content["model"], "dropout": None}
    if isinstance(model["vocab"], dict):
        model, top = hide_in_table(model, added, hidden_ids), table_size(model["vocab"])
    else:
        model, top = hide_in_list(model, hidden_ids), len(model["vocab"])
    by_id = {token.id: token for token in added if token.id >= top}
    places = range(top, max(by_id, default=0) + 1)
    beyond = [by_id.get(number) or stand_in(number) for number in places]
    tokens = [token for token in added if token.id < top] + beyond
    changed = {
        "truncation": None,
        "padding": None,
        "post_processor": None,
        "model": model,
        "added_tokens": [asdict(token) for token in tokens],
    }
    return json.dumps({**content, **changed}, ensure_ascii=False)


def table_size(vocabulary: Mapping[str, int]) -> int:
    """Return the largest id of a vocabulary + 1."""
    return max(vocabulary.values(), default=-1) + 1


def hide_in_table(
    model: dict[str, Any], added: Sequence[AddedToken], hidden_ids: Collection[int]
) -> dict[str, Any]:
    """Hide ids in a vocabulary of names and numbers, and fill its gaps."""
    vocabulary: dict[str, int] = model["vocab"]
    hidden = {token for token, number in vocabulary.items() if number in hidden_ids}
    if letter := next((token for token in hidden if len(token) == 1), None):
        raise DataError(
            f"the control token {letter!r} is also a letter of the vocabulary",
            "name one that no text is made of",
        )
    kept = {token: number for token, number in vocabulary.items() if token not in hidden}
    top = table_size(vocabulary)
    inside = {token.id: token.content for token in added if token.id < top}
    for number in set(range(top)).difference(kept.values()):
        kept[inside.get(number, unwritable(number))] = number
    changed = {**model, "vocab": kept}
    if hidden and model.get("merges"):
        prefix = model.get("continuing_subword_prefix") or ""
        changed["merges"] = [
            merge for merge in model["merges"] if hidden.isdisjoint(touched(merge, prefix))
        ]
    if model.get("unk_token") in hidden:
        changed["unk_token"] = unwritable(vocabulary[model["unk_token"]])
    return changed


def hide_in_list(model: dict[str, Any], hidden_ids: Collection[int]) -> dict[str, Any]:
    """Hide ids in the vocabulary of a Unigram model: pairs of piece and score, by their places."""
    pairs = [
        [unwritable(number) if number in hidden_ids else piece, score]
        for number, (piece, score) in enumerate(model["vocab"])
    ]
    return {**model, "vocab": pairs}


def touched(merge: str | list[str], prefix: str) -> tuple[str, str, str]:
    """Return the two parts of a merge in either way of writing it, and what they make."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right, left + right.removeprefix(prefix)


def stand_in(number: int) -> AddedToken:
    """Return an added token that keeps an id and is found in no text."""
    return AddedToken(number, unwritable(number), special=False, normalized=False)


def unwritable(number: int) -> str:
    """Return a name for an id that stands in no text: a non-character and a hash."""
    return "\U0010ffff" + hashlib.sha256(str(number).encode()).hexdigest()
