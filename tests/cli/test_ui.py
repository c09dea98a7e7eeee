"""How illada talks, whatever the verb: counts in words, bars that fit their terminal."""

import ast
import io
import re
import sys

import pytest

from illada_cli.corpus import facts_table
from illada_cli.ui import Talk, progress_words
from tests.conftest import REPO

COUNTED = re.compile(r" (new )?[a-z]{3,}s\b")
VERBS = {" leaves"}  # "the context of 256 leaves room"


def counts_in(source):
    """Yield each count of a source that stands before a plural it is not asked about."""
    for text in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)):
        for before, value, after in zip(
            [None, *text.values], text.values, text.values[1:], strict=False
        ):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                continue
            shown = ast.unparse(value.value)
            is_count = shown.startswith("len(") or (
                value.format_spec is not None and ast.unparse(value.format_spec) == "f','"
            )
            is_whole = isinstance(before, ast.Constant) and before.value.endswith(" of ")
            word = COUNTED.match(after.value)
            if is_count and not is_whole and word and word[0] not in VERBS:
                yield f"{{{shown}}}{word[0]}"


def test_what_is_counted_is_told_in_the_singular_where_there_is_one():
    assert [*counts_in("f'{n:,} texts'"), *counts_in("f'{len(n)} new tokens'")]
    assert not [*counts_in("f'3 of {n:,} texts'"), *counts_in("f'{n:.1f} tokens'")]
    found = {
        str(path.relative_to(REPO)): counts
        for path in sorted((REPO / "illada_cli").rglob("*.py"))
        if (counts := list(counts_in(path.read_text())))
    }
    assert found == {}


class Screen(io.StringIO):
    """What a terminal is sent."""

    def isatty(self):
        return True


@pytest.fixture
def last_line(monkeypatch):
    """Return what stands on a terminal of so many columns at the end of a bar."""

    def show(columns, note):
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        for name, value in (("TERM", "xterm"), ("NO_COLOR", "1"), ("COLUMNS", str(columns))):
            monkeypatch.setenv(name, value)
        with Talk().progress("pretrain", 2e6, "tok", 1e6) as advance:
            advance(500_000, note)
        lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "\n", screen.getvalue()).split("\n")
        return [line for line in lines if line.startswith("pretrain")][-1].rstrip()

    return show


NOTE = "loss 6.680 (6.938 now), MFU 41%, step 29"


def test_a_bar_gives_its_place_to_what_it_would_hide(last_line):
    counted = "1.5 Mtok of 2 Mtok, "
    for columns in (60, 80, 100, 140):
        line = last_line(columns, NOTE)
        assert len(line) <= columns
        assert line.startswith("pretrain ")
        assert counted in line
        assert "tok/s " in line
        assert line.endswith(NOTE if columns > 80 else "…")
        assert ("━" in line) == (columns > 80)
    assert re.search(r"漢 ?…$", last_line(80, "漢" * 40))


def test_what_has_no_prefixes_is_counted_in_whole_numbers():
    assert progress_words(1_234_000, 5e6, "tok", 999) == "1.23 Mtok of 5 Mtok, 999 tok/s"
    assert progress_words(1234, 5500, "item", 10.44) == "1,234 of 5,500 items, 10.4 items/s"
    assert progress_words(1, 1, "item", 0.5) == "1 of 1 item, 0.5 items/s"
    assert progress_words(1, None, "item", 0.5) == "1 item, 0.5 items/s"


def test_a_fact_too_long_for_its_terminal_goes_on_below():
    facts = {"rows": 1234, "settings": {"mode": "stream", "segments": "row", "sha256": "a" * 64}}
    assert facts_table(facts, 40).splitlines() == [
        "  rows      1,234",
        "  settings  mode stream, segments row,",
        "            sha256",
        "            " + "a" * 64,
    ]
    assert facts_table(facts).splitlines()[1].endswith(f"segments row, sha256 {'a' * 64}")
