"""`illada chat` on a real pseudo-terminal: denoising seen, Ctrl-C, keys typed meanwhile."""

import json
import os
import pty
import select
import signal
import sys
import time

import pytest

from tests.conftest import command_environment


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, arguments, environment):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(
                sys.executable, [sys.executable, "-m", "illada_cli", *arguments], environment
            )
        self.seen = ""

    def wait_for(self, text, timeout_s=60):
        """Read until a text is seen, and forget all up to its end."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} was not seen in {self.seen!r}"
            self.seen += os.read(self.terminal, 1 << 16).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, text):
        os.write(self.terminal, text.encode())

    def interrupt_prompt(self):
        """Press Ctrl-C at the next prompt, once readline waits for keys: it misses one before."""
        self.wait_for("> ")
        time.sleep(0.2)
        self.type("\x03")

    def exit_code(self, timeout_s=60):
        """Read to the end and return the exit code."""
        try:
            while select.select([self.terminal], [], [], timeout_s)[0]:
                os.read(self.terminal, 1 << 16)
            os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(byte_model, tmp_path):
    """Start a chat on a terminal of 80 columns."""
    started = []

    def start(*options):
        environment = command_environment(
            TERM="xterm-256color", XDG_STATE_HOME=str(tmp_path), NO_COLOR="1", LC_ALL="C.UTF-8"
        )
        arguments = ["chat", "--ckpt", str(byte_model), *map(str, options)]
        started.append(Terminal(arguments, environment))
        started[-1].wait_for("> ")
        return started[-1]

    yield start
    for one in started:
        os.close(one.terminal)


def test_an_answer_is_seen_denoising_and_ctrl_c_stops_it_but_not_the_chat(terminal, tmp_path):
    chat = terminal("--max-new-tokens", 400, "--temperature", 1, "--seed", 5)
    chat.type("Hello\r")
    chat.wait_for("░")
    chat.type("\x03")
    chat.wait_for("stopped: ")
    chat.wait_for("> ")
    chat.type("/set max_new_tokens 8\r")
    chat.wait_for("max_new_tokens is 8")
    chat.wait_for("> ")
    chat.type("Again\r")
    shown = chat.wait_for("> ")
    assert "░" in shown
    chat.type("\x04")
    assert chat.exit_code() == 0
    assert "Again" in (tmp_path / "illada" / "chat_history").read_text()


def test_ctrl_c_clears_a_line_and_leaves_with_130_when_it_comes_twice(terminal):
    first, second = terminal("--max-new-tokens", 8), terminal()
    first.type("half a turn")
    first.wait_for("half a turn")
    first.type("\x03")
    first.interrupt_prompt()
    first.wait_for("Ctrl-C again leaves")
    first.wait_for("> ")
    first.type("Hello\r")
    first.wait_for("Hello")
    first.interrupt_prompt()
    assert "half" not in first.wait_for("Ctrl-C again leaves")
    first.interrupt_prompt()
    assert first.exit_code() == 130
    os.kill(second.pid, signal.SIGTERM)
    assert second.exit_code() == 143


def test_keys_typed_during_an_answer_wait_for_the_prompt_and_the_chat_is_kept(terminal, tmp_path):
    chat = terminal("--max-new-tokens", 200, "--block-length", 8, "--eos-guard", "logits")
    chat.type("Hello\r")
    chat.wait_for("░")
    chat.type("/set max_new_tokens 8\r")
    shown = chat.wait_for("max_new_tokens is 8")
    assert shown.count("/set max_new_tokens 8") == 1  # at the prompt, not within the answer
    kept = json.loads((tmp_path / "illada" / "last_chat.jsonl").read_text())
    assert [turn["role"] for turn in kept["messages"]] == ["user", "assistant"]
    os.kill(chat.pid, signal.SIGKILL)
    again = terminal()
    again.type("/load\r")
    again.wait_for("loaded 2 turns")
