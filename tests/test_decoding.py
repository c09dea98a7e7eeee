"""What anyone may have written becomes a value of a known type, or one line that says why not."""

import json
import os
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from illada_core.data.sources.records import array_items
from illada_core.decoding import (
    MOST_LEVELS,
    Count,
    decode_json,
    decode_record,
    decode_toml,
    shaped,
)
from illada_core.errors import CheckpointError, UsageError
from illada_core.files import decoding, read_bytes, read_json, read_toml


@dataclass(frozen=True)
class Shard:
    name: str
    tokens: Count


@dataclass(frozen=True)
class Dataset:
    kind: Literal["documents", "rows"]
    shards: tuple[Shard, ...]
    places: list[tuple[Count, str]] = field(default_factory=list)
    share: float | None = None


WHOLE = {"kind": "rows", "shards": [{"name": "a", "tokens": 3}], "places": [[1, "b"]], "share": 1}


def test_a_value_of_the_right_shape_becomes_its_dataclass():
    assert shaped(WHOLE, Dataset) == Dataset("rows", (Shard("a", 3),), [(1, "b")], 1.0)
    assert type(shaped(WHOLE, Dataset).share) is float
    assert shaped({"kind": "rows", "shards": []}, Dataset) == Dataset("rows", ())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "bytes"}, 'kind is "bytes", not one of documents, rows'),
        ({"kind": None}, "kind is null, not one of documents, rows"),
        ({"more": 1}, "more is unknown"),
        ({"shards": {}}, "shards is an object, not a list"),
        ({"shards": [{"name": "a"}]}, "shards[0].tokens is missing"),
        ({"shards": [{"name": 1, "tokens": 3}]}, "shards[0].name is 1, not a string"),
        (
            {"shards": [{"name": "a", "tokens": True}]},
            "shards[0].tokens is true, not a whole number",
        ),
        ({"shards": [{"name": "a", "tokens": 3.0}]}, "shards[0].tokens is 3.0, not a whole number"),
        (
            {"shards": [{"name": "a", "tokens": -1}]},
            "shards[0].tokens is -1, not between 0 and 9223372036854775807",
        ),
        (
            {"shards": [{"name": "a", "tokens": 10**30}]},
            "shards[0].tokens is a number of 100 bits, not between -9223372036854775808 and "
            "9223372036854775807",
        ),
        ({"places": [[1]]}, "places[0] has 1 items, not 2"),
        ({"places": [[1, 2]]}, "places[0][1] is 2, not a string"),
        ({"share": "x" * 100}, f'share is "{"x" * 39}…, not a number or null'),
    ],
)
def test_another_shape_is_told_with_the_place(change, told):
    with pytest.raises(ValueError, match=r"^\S+ \w+ ") as caught:
        shaped({**WHOLE, **change}, Dataset)
    assert str(caught.value) == told


KINDS = st.sampled_from(
    [int, float, str, bool, Any, Count, Annotated[int, range(9)], int | None, list[int], Dataset]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(JSON, KINDS)
def test_any_value_has_a_shape_or_a_line_that_says_why_not(value, kind):
    told = ""
    try:
        shaped(value, kind)
    except ValueError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 400


def test_json_is_decoded_as_deep_as_everything_can_walk():
    deep = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    assert json.dumps(decode_json(deep)) == deep
    for decode, text in (
        (decode_json, f"[{deep}]"),
        (decode_record, f"[{deep}]"),
        (decode_json, '{"a":' * 1000 + "1" + "}" * 1000),
        (decode_toml, "a = " + "[" * 3000),
        (decode_toml, f"a = [{deep}]"),
    ):
        with pytest.raises(ValueError, match="nested too deep"):
            decode(text)


def test_toml_needs_no_more_memory_than_its_length():
    """Four seconds and some gigabytes for 40 KB, where nobody counts the dots of a key."""
    began = time.process_time()
    for text in (".".join(["a"] * 20_000) + " = 1", "a = 1\n" * 20_000):
        with pytest.raises(ValueError, match="too many dots"):
            decode_toml(text)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udfff": 1}', r'["\ud83d"]', '"\ud800"'])
def test_half_of_a_surrogate_pair_is_no_text(text):
    with pytest.raises(ValueError, match="surrogate"):
        decode_json(text)
    assert decode_json(r'"\ud83d\ude00"') == "\U0001f600"


def test_a_record_may_hold_what_tables_are_often_written_with():
    assert decode_record('{"text": "a", "score": NaN, "text": "b"}')["text"] == "b"
    with pytest.raises(ValueError, match="at column 2"):
        decode_record("{")
    with pytest.raises(ValueError, match="digits") as caught:
        decode_record("9" * 5000)
    assert "set_int_max_str_digits" not in str(caught.value)


def test_an_array_of_many_records_is_read_in_time_linear_in_its_length():
    text = "[" + ",".join(["{}"] * 300_000) + "]"
    began = time.process_time()
    assert sum(1 for _ in array_items(iter([text]))) == 300_000
    assert time.process_time() - began < 5  # it was 12


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        for read, error in (
            (lambda path: read_json(path, CheckpointError), CheckpointError),
            (lambda path: read_bytes(path, CheckpointError), CheckpointError),
            (read_toml, UsageError),
        ):
            with pytest.raises(error, match=f"{name} is a pipe or a device"):
                read(tmp_path / name)


def test_what_a_file_lacks_is_told_with_its_name(tmp_path):
    path = tmp_path / "a.toml"
    for data in (b"a =", b"\xff", b"a = 1" + b"0" * 5000):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=r"a\.toml is not valid TOML") as caught:
            read_toml(path)
        assert "\n" not in caught.value.sentence
    with (
        pytest.raises(CheckpointError, match=r"a\.toml is damaged \(it is 1, not a list\)"),
        decoding(path, CheckpointError),
    ):
        shaped(1, list[int])
