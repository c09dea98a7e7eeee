"""The page in a browser: a chat, the canvas, replay, gaps by selecting, traces."""

import json
import os
from pathlib import Path

import pytest

from illada_core.serving.page import page
from tests.serving.browser import CHROMIUM, browsing

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
# Where a person wants to look at what the page shows.
PICTURES = os.environ.get("ILLADA_PICTURES")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def opened(browser, server):
    """The page, freshly loaded; afterwards nothing was thrown, and no other host was asked."""
    browser.events.clear()
    browser.open(server.url.removesuffix("/v1") + "/")
    browser.wait("document.querySelectorAll('#settings label').length === 7")
    yield browser
    assert browser.faults() == []
    assert browser.hosts() == {server.url.split("/")[2]}


def picture(browser, name):
    if PICTURES:
        browser.picture(Path(PICTURES) / name)


def type_and_send(browser, text):
    browser.run(f"$('input').value = {json.dumps(text)}; $('form').requestSubmit(); 1")
    browser.wait("stopping === null && run.seconds !== null")


def cells(browser):
    """Return the canvas as it is shown: text and step of each cell, None for a mask."""
    return browser.run(
        "[...document.querySelectorAll('#canvas .cell:not(.gap)')].map((cell) =>"
        " cell.matches('.mask') ? null"
        " : [cell.firstChild.textContent, +cell.lastChild.textContent])"
    )


def test_a_chat_shows_the_answer_and_every_step(opened, model):
    type_and_send(opened, "Why is the sky blue?")
    alone = model.chat(
        [{"role": "user", "content": "Why is the sky blue?"}], block_length=8, max_new_tokens=24
    )
    turns = opened.run("[...document.querySelectorAll('.turn')].map((turn) => turn.textContent)")
    assert turns == ["Why is the sky blue?", alone.text]
    assert opened.run("+$('steps').value") == alone.forwards
    picture(opened, "chat.png")
    opened.run("show(3); 1")
    now = cells(opened)
    assert len(now) == 8
    assert now.count(None) == 5
    assert sorted(cell[1] for cell in now if cell) == [1, 2, 3]
    opened.run("$('scrub').value = 0; $('scrub').dispatchEvent(new Event('input')); 1")
    assert cells(opened) == [None] * 8
    picture(opened, "replay.png")


def test_a_selection_becomes_a_gap_that_is_filled(opened, model):
    opened.run("choose('text'); $('input').value = 'The sky is blue today.'; 1")
    opened.run("$('input').setSelectionRange(11, 15); makeGap()")
    assert opened.run("$('input').value") == "The sky is [MASK:4] today."
    type_and_send(opened, opened.run("$('input').value"))
    text = opened.run("document.querySelector('.turn.code').textContent")
    assert text == model.infill("The sky is [MASK:4] today.", block_length=8).text
    new = opened.run("document.querySelector('.turn.code .new').textContent")
    assert text == f"The sky is {new} today."
    picture(opened, "infill.png")
    select = (
        "const node = document.querySelector('.turn.code .given').firstChild;"
        "getSelection().setBaseAndExtent(node, 4, node, 7);"
    )
    opened.run(f"{{ {select} }} refill().then(() => 1)")
    opened.wait("document.querySelectorAll('.turn.code .new').length === 2 && stopping === null")
    again = opened.run("[...document.querySelectorAll('.turn.code')].at(-1).textContent")
    assert again.startswith("The ")
    assert again.endswith(f" is {new} today.")


def test_a_trace_of_generate_is_replayed(opened, illada, byte_model, tmp_path):
    asked = ("--ckpt", byte_model, "Once", "--block-length", 8, "--max-new-tokens", 16)
    illada("generate", *asked, "--trace", "trace.jsonl", "--eos-guard", "logits")
    text = (tmp_path / "trace.jsonl").read_text()
    opened.run(f"load(new File([{json.dumps(text)}], 'trace.jsonl')).then(() => 1)")
    lines = [json.loads(line) for line in text.splitlines()]
    now = cells(opened)
    assert [cell[1] for cell in now] == [
        line["step"] + 1 for line in sorted(lines, key=lambda line: line["position"])
    ]
    opened.run("show(2); 1")
    assert cells(opened).count(None) == 6
    opened.run("load(new File(['{'], 'other.txt')).then(() => 1)")
    assert opened.run("document.querySelector('.turn.error').textContent").startswith("other.txt")


def test_what_a_model_writes_is_never_markup(opened):
    opened.run("choose('prompt'); 1")
    type_and_send(opened, "<img src=x onerror=alert(1)><script>alert(2)</script>")
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("document.querySelector('.turn').textContent").startswith("<img src=x")


def test_a_dark_window(browser, server):
    browser.open(server.url.removesuffix("/v1") + "/", dark=True)
    browser.wait("document.querySelectorAll('#settings label').length === 7")
    browser.run("choose('prompt'); $('temperature').value = 1; 1")
    type_and_send(browser, "Once upon a time")
    picture(browser, "dark.png")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"


def test_the_page_loads_nothing():
    text, headers = page()
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in headers["content-security-policy"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "://"):
        assert word not in text
