"""`illada chat`: a conversation in the terminal, or a line a turn without one."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from illada_cli import options, ui
from illada_cli.generate import sampler as generation
from illada_cli.generate.options import Asked, settle, takes_settings
from illada_core.errors import IlladaError, StoppedBySignal

if TYPE_CHECKING:
    from illada_cli.chat.session import Session
    from illada_cli.chat.view import View

CONVERSATION = "Conversation"

System = Annotated[
    str | None,
    typer.Option("--system", help="What the system says.", rich_help_panel=CONVERSATION),
]
Load = Annotated[
    Path | None,
    typer.Option(
        "--load",
        metavar="FILE",
        help="Go on with a saved conversation.",
        rich_help_panel=CONVERSATION,
    ),
]


@takes_settings
def chat(
    ckpt: options.Ckpt,
    system: System = None,
    load: Load = None,
    truncate: options.Truncate = None,
    *,
    asked: Asked,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    mask_id: options.MaskId = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Talk with a model, and see each answer come out of its masks.

    \b
    Examples:
      illada chat --ckpt DIR
      illada chat --ckpt DIR --system "Answer in one sentence." --threshold 0.9
      printf 'Hello.\\nAnd again?\\n' | illada chat --ckpt DIR
      printf 'Hello.\\n/save hello.jsonl\\n' | illada chat --ckpt DIR --json | jq -r .text

    \b
    /help lists the commands: /system /reset /save /load /set /trace /stats /quit. A line that
    ends in \\ goes on in the next, and so do all lines between two \"\"\". Ctrl-C stops an answer;
    at the prompt it leaves, as Ctrl-D does. Without a terminal each line is a turn.
    """
    talk = ui.Talk(quiet, verbose)
    settings = settle(asked)
    talk.say(f"loading {ckpt}")
    from illada_cli.chat.session import Session, ended_by_signals
    from illada_core.inference.checkpoint import choose_device, open_checkpoint

    checkpoint = open_checkpoint(ckpt, mask_id)
    checkpoint.needed_tokenizer()
    settings = generation.completed(settings, checkpoint)
    stop_ids = tuple(asked.stop_id or ())
    generation.rules_for(settings, checkpoint, stop_ids, talk)
    device = choose_device(device)
    session = Session(
        checkpoint=checkpoint,
        logits=checkpoint.load(device, dtype).logits_at,
        device=device,
        settings=settings,
        talk=talk,
        stop_ids=stop_ids,
        truncate=truncate,
    )
    if load:
        session.conversation.load(load)
    if system is not None:
        session.conversation.system = system
    with ended_by_signals():
        converse(session, as_json)


def converse(session: Session, as_json: bool) -> None:
    """Take turns until the user leaves."""
    from illada_cli.chat.commands import COMMANDS
    from illada_cli.chat.input import line_editing, piped_turns, typed_turns

    if isinstance(sys.stdin, TextIOWrapper):
        # Most locales would end the chat at a byte that is no character.
        sys.stdin.reconfigure(errors="replace")
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        session.talk.say("/help lists the commands, Ctrl-D leaves")
    elif sys.stdin.isatty():
        session.talk.say("reading turns from the terminal, a line each, until Ctrl-D")
    names = [f"/{name}" for name in COMMANDS]
    with line_editing(names) if is_terminal else nullcontext():
        for text in typed_turns() if is_terminal else piped_turns():
            try:
                take_turn(session, text, view_of(session, is_terminal, as_json))
            except IlladaError as error:
                if not is_terminal or isinstance(error, StoppedBySignal):
                    raise
                ui.complain(error.sentence, error.hint)
            if session.is_over:
                return


def view_of(session: Session, is_terminal: bool, as_json: bool) -> View:
    """Return how the next answer is shown."""
    from illada_cli.chat.view import LiveView, PlainView

    if as_json or not is_terminal or not ui.is_rich_terminal(sys.stdout):
        return PlainView(as_json)
    checkpoint = session.checkpoint
    decode = checkpoint.needed_tokenizer().decode
    return LiveView(decode, checkpoint.mask_id, session.settings["stop"])


def take_turn(session: Session, text: str, view: View) -> None:
    """Obey a command, or answer what was said."""
    from illada_cli.chat.commands import obey
    from illada_cli.chat.session import interruptible

    if text.startswith("/") and not text.startswith("//"):
        told = obey(session, text)
        if told:
            print(ui.printable(told), file=sys.stderr)
        return
    session.conversation.add("user", text.removeprefix("/") if text.startswith("//") else text)
    with interruptible() as is_stopped, view:
        answer = session.respond(view, is_stopped)
    if answer.finish_reason == "interrupt":
        kept = "what had settled is kept" if answer.text else "your turn is taken back"
        session.talk.say(f"stopped: {kept}")
    session.talk.detail(answer.sentence())
