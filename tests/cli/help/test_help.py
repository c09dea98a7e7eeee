"""Pages of documentation in a shell: all of them, as they are, and laid out on a terminal."""

import os
import pty
import subprocess
import sys

import pytest

from illada_cli.app import PAGES, VERBS
from tests.conftest import REPO, command_environment

DOCS = sorted((REPO / "docs").glob("*.md"))


def test_every_page_is_listed_with_its_title(illada):
    listed = dict(line.split(maxsplit=1) for line in illada("help").stdout.splitlines())
    titles = {path.stem: path.read_text().splitlines()[0].removeprefix("# ") for path in DOCS}
    assert listed == titles


def test_a_page_in_a_pipe_is_the_file(illada):
    assert illada("help", "scoring").stdout == (REPO / "docs" / "scoring.md").read_text()


def test_a_verb_as_topic_is_its_help(illada):
    assert illada("help", "score").stdout == illada("score", "--help").stdout


def test_an_unknown_topic_is_a_usage_error_that_names_the_nearest(illada):
    done = illada("help", "scorin", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith(
        "illada: there is no topic scorin\n\nhint: did you mean scoring? "
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_a_page_that_is_there(verb):
    if verb != "help":
        assert (REPO / "docs" / f"{PAGES[verb]}.md").exists()


def test_the_help_of_a_verb_ends_with_its_page(illada):
    assert illada("score", "--help").stdout.rstrip().endswith("More: illada help scoring")


def test_a_terminal_gets_a_page_laid_out(tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "illada_cli", "help", "scoring"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        env=command_environment(TERM="xterm", PAGER="cat", NO_COLOR="1"),
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # what Linux says where the other end of a terminal is closed
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "Scoring: what goes in" in text
    assert "# Scoring" not in text
    assert "```" not in text
