"""`illada chat`: through a pipe, and its parts."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from illada_cli.chat.commands import obey
from illada_cli.chat.conversation import Conversation
from illada_cli.chat.input import read_turn
from illada_cli.chat.session import Chat
from illada_cli.chat.view import PlainView, runs
from illada_cli.ui import Talk
from illada_core.errors import DataError, UsageError
from illada_core.inference.checkpoint import open_checkpoint
from illada_core.inference.requests import Prompting
from illada_core.inference.settings import Settings

MASK = 5
ANSWER_KEYS = {
    *("text", "output_ids", "finish_reason", "new_tokens"),
    *("forwards", "refreshes", "rows_computed", "exact"),
}


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


class Spy(PlainView):
    """Remembers what it was shown."""

    def __init__(self):
        super().__init__(as_json=True)
        self.canvases = []

    def show(self, ids, block_done):
        self.canvases.append((ids, block_done))


@pytest.fixture(scope="module")
def checkpoint(byte_model):
    found = open_checkpoint(str(byte_model))
    return found, found.load("cpu", "auto").logits_at


@pytest.fixture
def session(checkpoint):
    settings = Settings(max_new_tokens=24, block_length=8, eos_guard="logits")
    return Chat(*checkpoint, "cpu", settings, Prompting(), Talk(quiet=True))


def say(session, text, steps=None):
    """Answer a turn, interrupted after some steps if so asked."""
    session.conversation.add("user", text)
    view = Spy()
    answer = session.respond(view, lambda: steps is not None and len(view.canvases) >= steps)
    return answer, view


def test_every_step_is_shown_and_blocks_settle_one_after_the_other(session, capsys):
    answer, view = say(session, "Hello")
    assert len(view.canvases) == answer.generation.forwards == 24
    assert [done for _, done in view.canvases].count(True) == 3
    for before, after in zip(view.canvases, view.canvases[1:], strict=False):
        kept = [token for token in before[0] if token != MASK]
        assert sum(token != MASK for token in after[0]) == len(kept) + 1
    assert json.loads(capsys.readouterr().out)["output_ids"] == list(answer.generation.output_ids)
    assert [turn.role for turn in session.conversation.turns] == ["user", "assistant"]


def test_an_interrupted_answer_keeps_what_had_settled_or_takes_the_turn_back(session):
    whole, view = say(session, "Hello")
    session.conversation.turns.clear()
    cut, _ = say(session, "Hello", steps=12)
    settled = view.canvases[11][0]
    cut_ids = list(cut.generation.output_ids)
    assert cut_ids == settled[: settled.index(MASK)]
    assert cut_ids == list(whole.generation.output_ids[: len(cut_ids)])
    assert cut.generation.finish_reason == "interrupt"
    session.conversation.turns.clear()
    say(session, "Hello", steps=0)
    assert session.conversation.turns == []


def test_a_turn_that_does_not_fit_is_taken_back_or_cut_on_request(session, capsys):
    with pytest.raises(DataError, match="the context of 512") as full:
        say(session, "x" * 600)
    assert full.value.hint.startswith("/reset")
    assert session.conversation.turns == []
    session.prompting = Prompting(truncate="left")
    say(session, "x" * 600)
    assert [turn.role for turn in session.conversation.turns] == ["user", "assistant"]
    assert "the conversation is cut on the left" in capsys.readouterr().err


def test_a_loaded_conversation_keeps_its_tools_and_variables(tmp_path):
    path = tmp_path / "talk.jsonl"
    fields = {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "chat_template_kwargs": {"think": True},
    }
    path.write_text(json.dumps(fields) + "\n")
    talk = Conversation()
    talk.load(path)
    assert talk.dialogue.fields == fields
    talk.write(path)
    assert lines(path.read_text()) == [fields]
    talk.reset()
    assert talk.dialogue.fields == {"messages": []}


def test_commands_change_what_they_say(session, tmp_path):
    obey(session, "/system Be brief.")
    say(session, "Hello")
    path = tmp_path / "talk.jsonl"
    obey(session, f"/save {path}")
    (saved,) = lines(path.read_text())
    assert [turn["role"] for turn in saved["messages"]] == ["system", "user", "assistant"]
    obey(session, "/save")
    turns = list(session.conversation.turns)
    obey(session, "/reset")
    assert session.conversation.dialogue.messages[0].content == "Be brief."
    assert session.conversation.turns == []
    obey(session, "/system")
    obey(session, f"/load {path}")
    assert (session.conversation.system, session.conversation.turns) == ("Be brief.", turns)
    obey(session, "/set threshold 0.5")
    obey(session, "/set factor 1")
    assert (session.settings.threshold, session.settings.factor) == (None, 1.0)
    assert obey(session, "/set factor none") == "factor is none"
    obey(session, "/set steps_per_block 3")
    assert obey(session, "/set steps_per_block none") == "steps_per_block is none"
    assert obey(session, "/set block_length none") == "block_length is 32"
    obey(session, "/set stop END")
    obey(session, "/set block-length 16")
    assert (session.settings.stop, session.settings.block_length) == (("END",), 16)
    assert "24 new tokens in 24 forwards" in obey(session, "/stats")
    assert "₂₄" in obey(session, "/trace")
    obey(session, f"/trace {tmp_path / 'trace.jsonl'}")
    commits = lines((tmp_path / "trace.jsonl").read_text())
    assert [commit["step"] for commit in commits] == list(range(24))
    assert all(name in obey(session, "/help") for name in ("/system", "/quit", "Ctrl-C"))
    obey(session, "/quit")
    assert session.is_over


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/sytem x", "there is no command /sytem"),
        ("/set temprature 1", "there is no setting temprature"),
        ("/set temperature warm", "temperature is a number, not 'warm'"),
        ("/set block_length 0", "block_length must be at least 1"),
        ("/set remasking best", "remasking is one of low-confidence"),
        ("/set max_new_tokens 0", "max_new_tokens must be at least 1"),
        ("/set temperature nan", "temperature is a number, not nan"),
        ("/set threshold 7", "threshold must be at most 1"),
        ("/set seed -4", "seed must be at least 0"),
        ("/save", "name a file"),
        ("/save nowhere.jsonl", "nothing to save yet"),
        ("/load .", "is a directory: ."),
        ("/load nowhere.jsonl", "there is no file nowhere.jsonl"),
        ("/trace", "there is no answer yet"),
        ("/stats", "there is no answer yet"),
        ("/regen", "there is no answer yet"),
        ("/load ~nosuchuser/x", "there is no home of ~nosuchuser"),
        ("/save a\0b", "a path cannot hold a zero byte"),
        ("/set truncate", "truncate is left or none"),
    ],
)
def test_a_wrong_command_changes_nothing(session, line, sentence):
    before = session.settings
    with pytest.raises((UsageError, DataError), match=re.escape(sentence)):
        obey(session, line)
    assert session.settings == before


@pytest.mark.parametrize("command", ["/save", "/trace"])
def test_a_file_that_cannot_be_written_does_not_end_the_chat(session, command, tmp_path):
    say(session, "Hello")
    with pytest.raises(DataError, match="no such file or directory"):
        obey(session, f"{command} {tmp_path}/nowhere/file.jsonl")
    assert len(session.conversation.turns) == 2


def test_a_transcript_never_replaces_a_file_it_does_not_know(tmp_path):
    path = tmp_path / "mine"
    path.write_text("{}\n")
    talk = Conversation()
    talk.add("user", "Hello")
    with pytest.raises(UsageError, match="exists already"):
        talk.save(path)
    with pytest.raises(DataError, match="holds no messages"):
        talk.load(path)
    path.write_text("not JSON")
    with pytest.raises(DataError, match="does not end with a line of JSON"):
        talk.load(path)
    assert path.read_text() == "not JSON"


@pytest.mark.parametrize(
    ("typed", "turn"),
    [
        (["one"], "one"),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (['"""one', "", 'two"""'], "one\n\ntwo"),
        (['"""', "one", '"""'], "\none\n"),
        (["one\\"], "one"),
        (["caf\udce9"], "caf?"),
    ],
)
def test_a_turn_may_have_several_lines(monkeypatch, typed, turn):
    waiting = iter(typed)

    def next_line(prompt):
        line = next(waiting, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", next_line)
    assert read_turn() == turn


def test_a_canvas_is_cut_at_its_masks_and_half_characters_wait():
    class Bytes:
        def decode(self, ids, keep_special=False):
            return bytes(ids).decode(errors="replace")

    ids = [*b"caf\xc3", MASK, MASK, *b"\xa9 au", MASK, *b"\x1b["]
    assert list(runs(ids, MASK, Bytes(), "░")) == [
        ("caf", "settled"),
        ("░░", "mask"),
        (" au", "loose"),
        ("░", "mask"),
        ("\\x1b[", "loose"),
    ]


def test_without_a_terminal_a_line_is_a_turn(illada, byte_model, tmp_path):
    script = "Hello\n\n//slash\n/save talk.jsonl\n/quit\nnever\n"
    options = ("--ckpt", byte_model, "--max-new-tokens", 16)
    done = illada("chat", *options, "--json", stdin=script)
    answers = lines(done.stdout)
    assert [set(answer) for answer in answers] == [ANSWER_KEYS] * 2
    (saved,) = lines((tmp_path / "talk.jsonl").read_text())
    assert [turn["content"] for turn in saved["messages"]] == [
        "Hello",
        answers[0]["text"],
        "/slash",
        answers[1]["text"],
    ]
    # The transcript, without its last word, makes generate say that word.
    (tmp_path / "talk.jsonl").write_text(json.dumps({"messages": saved["messages"][:3]}))
    again = illada("generate", *options, "--jsonl", "talk.jsonl", "--json")
    assert lines(again.stdout)[0]["output_ids"] == answers[1]["output_ids"]

    plain = illada("chat", *options, "--temperature", 1, stdin="Hello\n/set nothing 1\n", code=2)
    assert all(letter.isprintable() or letter == "\n" for letter in plain.stdout)
    assert "there is no setting nothing" in plain.stderr


def test_a_byte_that_is_no_character_does_not_end_the_chat(start_illada, byte_model):
    options = ("--ckpt", byte_model, "--max-new-tokens", 4, "-q")
    chat = start_illada("chat", *options, PYTHONIOENCODING="utf-8:strict")
    chat.stdin.buffer.write(b"caf\xe9\n")
    chat.stdin.close()
    assert chat.stdout.read().endswith("\n")
    assert (chat.wait(timeout=60), chat.stderr.read()) == (0, "")


def test_the_last_turn_is_answered_again_with_other_numbers(session):
    session.change(replace(session.settings, temperature=1.0))
    first, _ = say(session, "Hello")
    with pytest.raises(UsageError, match="no answer yet"):
        Chat.take_back(SimpleNamespace(conversation=Conversation()))
    assert obey(session, "/regen") == ""
    assert session.is_asked
    view = Spy()
    second = session.respond(view, lambda: False)
    assert second.text != first.text
    assert [turn.content for turn in session.conversation.turns] == ["Hello", second.text]
    obey(session, "/regen")
    session.respond(Spy(), lambda: True)
    assert [turn.content for turn in session.conversation.turns] == ["Hello", second.text]


def test_settings_may_be_written_with_an_equals_sign_and_truncation_is_one(session):
    assert obey(session, "/set temperature=0.7") == "temperature is 0.7"
    assert obey(session, "/set top-p = 0.5") == "top_p is 0.5"
    assert obey(session, "/set stop a = b") == "stop is 'a = b'"
    assert obey(session, "/set truncate left") == "truncate is left"
    say(session, "x" * 600)
    assert obey(session, "/set truncate=none") == "truncate is none"
    with pytest.raises(UsageError, match="truncate is left or none"):
        obey(session, "/set truncate right")
    assert "truncate             none" in obey(session, "/set")
