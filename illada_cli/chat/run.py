"""The work of `illada chat`: turns are taken until the user leaves."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from io import TextIOWrapper

from illada_cli import ui
from illada_cli.chat.commands import COMMANDS, obey
from illada_cli.chat.input import (
    autosave_path,
    holding_keys,
    line_editing,
    piped_turns,
    typed_turns,
)
from illada_cli.chat.options import ChatOptions
from illada_cli.chat.session import Chat
from illada_cli.chat.signals import ended_by_signals, interruptible
from illada_cli.chat.view import LiveView, PlainView, View
from illada_cli.opening import open_asked
from illada_core.errors import IlladaError, StoppedBySignal
from illada_core.inference.checkpoint import choose_device
from illada_core.inference.requests import Prompting
from illada_core.inference.text_sampler import complete_settings
from illada_core.model.replay import replayed


def run(asked: ChatOptions, talk: ui.Talk) -> None:
    """Open a checkpoint and talk with it."""
    checkpoint = open_asked(asked, talk)
    checkpoint.require_tokenizer()
    complete_settings(asked.settings, checkpoint)  # what contradicts is told before weights load
    device = choose_device(asked.device)
    chat = Chat(
        checkpoint,
        replayed(checkpoint.load(device, asked.dtype, asked.quantize), asked.graphs),
        device,
        asked.settings,
        Prompting(truncate=asked.truncate),
        talk,
    )
    if asked.load:
        chat.conversation.load(asked.load)
    if asked.system is not None:
        chat.conversation.system = asked.system
    with ended_by_signals():
        converse(chat, asked.as_json)


def converse(chat: Chat, as_json: bool) -> None:
    """Take turns until the user leaves."""
    if isinstance(sys.stdin, TextIOWrapper):
        # Most locales would end the chat at a byte that is no character.
        sys.stdin.reconfigure(errors="replace")
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        chat.autosave = autosave_path()
        chat.talk.say("/help lists the commands, Ctrl-D leaves")
    elif sys.stdin.isatty():
        chat.talk.say("reading turns from the terminal, a line each, until Ctrl-D")
    names = [f"/{name}" for name in COMMANDS]
    with line_editing(names) if is_terminal else nullcontext():
        for text in typed_turns() if is_terminal else piped_turns():
            try:
                take_turn(chat, text, view_of(chat, is_terminal, as_json))
            except IlladaError as error:
                if not is_terminal or isinstance(error, StoppedBySignal):
                    raise
                ui.complain(error.sentence, error.hint)
            if chat.is_over:
                return


def view_of(chat: Chat, is_terminal: bool, as_json: bool) -> View:
    """Return how the next answer is shown."""
    if as_json or not is_terminal or not ui.is_rich_terminal(sys.stdout):
        return PlainView(as_json)
    checkpoint = chat.checkpoint
    return LiveView(checkpoint.require_tokenizer(), checkpoint.mask_id, chat.settings.stop)


def take_turn(chat: Chat, text: str, view: View) -> None:
    """Obey a command, or answer what was said."""
    if text.startswith("/") and not text.startswith("//"):
        reply = obey(chat, text)
        if reply:
            print(ui.printable(reply), file=sys.stderr)
        if not chat.is_asked:
            return
    else:
        chat.ask(text.removeprefix("/") if text.startswith("//") else text)
    with interruptible() as is_stopped, holding_keys(), view:
        answer = chat.respond(view, is_stopped)
    if answer.is_interrupted:
        taken_back = "the answer before is back" if chat.replaced else "your turn is taken back"
        kept = "what had settled is kept" if answer.text else taken_back
        chat.talk.say(f"stopped: {kept}")
    chat.talk.detail(answer.sentence())
