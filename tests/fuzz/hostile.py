"""Files that somebody changed on purpose: valid ones, with what no decoder may stumble over."""

import json
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from illada_core.errors import IlladaError

EXAMPLES = int(os.environ.get("ILLADA_EXAMPLES", "0"))
MOST_SECONDS = 10
MOST_BYTES = 1 << 30
# JSON for a value, in any place of any file.
VALUES = [
    *("null", "true", "false", "0", "-1", "1", "2", "1.0", "0.5", "-1.5", "1e30", "1e308"),
    *("1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 30, "-1" + "0" * 30, "9" * 10_000),
    *("65536", "16777216", "4294967296", "9223372036854775807", "9223372036854775808"),
    *('""', '"a"', '"1"', r'"\ud800"', r'"\u0000"', '"../../x"', '"/dev/zero"', '"\u202e\x7f"'),
    *('"' + "x" * 100_000 + '"', '" "', '"default"', r'"\n"', '"[MASK]"', '"é"'),
    *("[]", "{}", "[[]]", "[1]", "[null]", '[""]', "[{}]", '{"a": 1}', '{"": null}', "[-1, 1e30]"),
    *(
        "[" * 90 + "]" * 90,
        "[" * 1000 + "]" * 1000,
        "[" * 100_000,
        '{"a":' * 50_000,
        "[0" + ",0" * 50_000 + "]",
    ),
]
TOML_VALUES = [
    *(
        "true",
        "0",
        "-1",
        "1",
        "0.5",
        "-0.5",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "9" * 5000,
        "1" + "0" * 18,
    ),
    *(
        "1" + "0" * 18,
        "9223372036854775807",
        "9223372036854775808",
        "1" + "0" * 30,
        "0x7fffffffffffffff",
    ),
    *('""', '"a"', '"\\u0000"', '"' + "x" * 60_000 + '"', '"cuda:99999999999999999999"'),
    *("[]", "[1]", "[[]]", "{}", "{a = 1}", "[" * 200 + "]" * 200, "[" * 30_000, "2026-01-31"),
    *("1979-05-27T07:32:00Z", "'", '"""', "=", "1_000_000_000_000", "[1, 'a']"),
]

PIECES = [b"\x00", b"\xff", b"\x7f", b"\x00" * 4, b"\xff" * 4, b"\xff" * 7 + b"\x7f"]


def fuzzed(most=12):
    """Return how a property is tried: a few examples, the same each time, or as many as asked."""
    return settings(
        max_examples=EXAMPLES or most,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def limited():
    """Fail what takes longer than MOST_SECONDS, or more than MOST_BYTES beyond what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_BYTES

    def ring(*_):
        raise AssertionError(f"it took more than {MOST_SECONDS} s")

    earlier = signal.signal(signal.SIGALRM, ring)
    signal.alarm(MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def decode_or_refuse(action, *names):
    """Do something with hostile files: it works, or one sentence, which is returned, names one."""
    told = None
    with limited():
        try:
            action()
        except IlladaError as error:
            told = error.sentence
    if told is not None:
        assert "\n" not in told
        assert len(told) < 1200
        assert not names or any(str(name) in told for name in names), told
    return told


def places_in(value, path=()):
    """Return the paths of values in decoded JSON; of what is long its first items stand for all."""
    found = [path]
    children = ()
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for key, inner in children[: 4 if len(children) > 60 else None]:
        found += places_in(inner, (*path, key))
    return found


class Raw:
    """JSON text that stands in a decoded value."""

    def __init__(self, text):
        self.text = text


def written(value):
    """Write a value as JSON, the raw parts as they are."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def changed(value, path, change):
    """Return a value in which `change` has been made at a path; it takes container and key."""
    if not path:
        return change({"": value}, "").get("", Raw(""))
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        return change(copy, path[0])
    copy[path[0]] = changed(copy[path[0]], path[1:], change)
    return copy


@st.composite
def hostile_json(draw, value, whole=True):
    """Draw text of JSON that is like `value`, but for one or two places (or its end)."""
    for _ in range(draw(st.integers(1, 2))):
        places = [path for path in places_in(value) if path or whole]
        path = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "twice", "more"]))
        value = changed(value, path, lambda box, key, kind=kind: edited(draw, box, key, kind))
    text = written(value)
    if draw(st.integers(0, 19)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text


def edited(draw, box, key, kind):
    """Change one value of a container."""
    if kind == "remove":
        if isinstance(box, dict):
            return {name: item for name, item in box.items() if name != key}
        return [item for place, item in enumerate(box) if place != key]
    hostile = Raw(draw(st.sampled_from(VALUES)))
    if kind == "twice" and isinstance(box, dict):
        box[key] = Raw(f"{written(box[key])}, {json.dumps(key)}: {hostile.text}")
    elif kind == "more" and isinstance(box, dict):
        box[draw(st.sampled_from(["", "unknown", "type", "\u202e"]))] = hostile
    else:
        box[key] = hostile
    return box


@st.composite
def hostile_toml(draw, text):
    """Draw TOML that is like `text`, but for a value, a line, a key or its end."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        name, equals, _ = lines[at].partition("=")
        hostile = draw(st.sampled_from(TOML_VALUES))
        lines[at : at + 1] = draw(
            st.sampled_from(
                [
                    [f"{name}= {hostile}"] if equals else [f"a = {hostile}"],
                    [f"{name}= {hostile}"] if equals else [f"[{hostile}]"],
                    [f"{name}= {hostile}"] if equals else [],
                    [],
                    [lines[at], lines[at]],
                    [".".join(["a"] * 30_000) + " = 1"],
                    ["[[x]]"],
                    ["\x00"],
                ]
            )
        )
        lines = lines or [""]
    return "\n".join(lines)


@st.composite
def hostile_bytes(draw, data):
    """Draw bytes that are like `data`, but for a few places, a piece that is gone, or their end."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        piece = draw(
            st.sampled_from(
                [b"\x00", b"\xff", b"\x7f", b"\x00" * 4, b"\xff" * 4, b"\xff" * 7 + b"\x7f"]
            )
            | st.binary(min_size=1, max_size=8)
        )
        kind = draw(st.sampled_from(["over", "over", "insert", "delete", "cut"]))
        match kind:
            case "over":
                data[at : at + len(piece)] = piece
            case "insert":
                data[at:at] = piece
            case "delete":
                del data[at : at + len(piece)]
            case "cut":
                del data[at:]
    return bytes(data)
